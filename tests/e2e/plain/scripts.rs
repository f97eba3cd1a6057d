//! Scripts that are played directly and through the proxy, and may not differ at all (behaviour
//! 69).

use mucplex_testkit::xml::NS_STREAM;

use crate::stage::Stage;
use crate::transparency::no_difference;

crate::tests![
    b69_messages,
    b69_roster,
    b69_presence_and_subscriptions,
    b69_carbons,
    b69_archive_of_the_account,
    b69_blocking,
    b69_personal_eventing,
    b69_information,
    b69_unknown_namespaces,
    b69_client_state,
    b69_file_transfer_negotiation,
    b69_unknown_nonzas,
];

async fn b69_messages(stage: Stage) {
    let script = "
        sessions: alice/phone bob/desk
        alice/phone sends <presence/>
        bob/desk sends <presence/>
        alice/phone sends <message type='chat' id='m1' to='{bob/desk}'><body>hello</body></message>
        bob/desk sends <message type='chat' id='m2' to='{alice}'><body>hello yourself</body></message>
        bob/desk sends <message id='m3' to='{alice/phone}' xml:lang='de'><subject>Betreff</subject><body>hallo</body><thread>t</thread></message>
        alice/phone sends <message type='headline' id='m4' to='{bob}'><body>news</body></message>
        alice/phone sends <message type='chat' id='m5' to='nobody@example.test'><body>anybody?</body></message>
        alice/phone sends <message type='chat' id='m6' to='{bob}/gone'><body>to a resource that is not there</body></message>
        alice/phone sends <message type='chat' id='m7' to='{bob/desk}'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>
        bob/desk sends <message type='error' id='m1' to='{alice/phone}'><error type='cancel'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>
        alice/phone sends <message type='chat' id='m8' to='{alice}'><body>to myself</body></message>
        alice/phone sends <message type='groupchat' id='m9' to='{bob/desk}'><body>bob is no room</body></message>";
    no_difference(stage.kind, "messages", script).await;
}

async fn b69_roster(stage: Stage) {
    let script = "
        sessions: alice/phone alice/laptop
        alice/phone asks <iq type='get'><query xmlns='jabber:iq:roster'/></iq>
        alice/laptop asks <iq type='get'><query xmlns='jabber:iq:roster'/></iq>
        alice/phone asks <iq type='set'><query xmlns='jabber:iq:roster'><item jid='carol@example.test' name='Carol &amp; Co'><group>Friends</group><group>Tea</group></item></query></iq>
        and alice/laptop awaits iq set
        alice/laptop asks <iq type='get'><query xmlns='jabber:iq:roster'/></iq>
        alice/laptop asks <iq type='set'><query xmlns='jabber:iq:roster'><item jid='carol@example.test' subscription='remove'/></query></iq>
        and alice/phone awaits iq set
        alice/phone asks <iq type='set'><query xmlns='jabber:iq:roster'><item jid=''/></query></iq>";
    no_difference(stage.kind, "roster", script).await;
}

async fn b69_presence_and_subscriptions(stage: Stage) {
    let script = "
        sessions: alice/phone bob/desk
        alice/phone asks <iq type='get'><query xmlns='jabber:iq:roster'/></iq>
        bob/desk asks <iq type='get'><query xmlns='jabber:iq:roster'/></iq>
        alice/phone sends <presence/>
        bob/desk sends <presence/>
        alice/phone sends <presence type='subscribe' id='s1' to='{bob}'><status>please</status></presence>
        and bob/desk awaits presence subscribe
        bob/desk sends <presence type='subscribed' id='s2' to='{alice}'/>
        and alice/phone awaits presence subscribed
        and alice/phone awaits presence from bob/desk
        bob/desk sends <presence id='p1'><show>away</show><status xml:lang='en'>tea</status><priority>1</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:example' ver='AAAAAAAAAAAAAAAAAAAAAAAAAAA='/></presence>
        and alice/phone awaits presence from bob/desk
        bob/desk sends <presence type='subscribe' id='s3' to='{alice}'/>
        and alice/phone awaits presence subscribe
        alice/phone sends <presence type='unsubscribed' id='s4' to='{bob}'/>
        and bob/desk awaits presence unsubscribed
        bob/desk sends <presence type='unavailable'><status>bye</status></presence>
        and alice/phone awaits presence unavailable
        alice/phone sends <presence id='directed' to='{bob/desk}'><status>only you</status></presence>
        alice/phone sends <presence type='unavailable'/>
        and bob/desk awaits presence unavailable";
    no_difference(stage.kind, "presence", script).await;
}

async fn b69_carbons(stage: Stage) {
    let script = "
        sessions: alice/phone alice/laptop bob/desk
        alice/phone asks <iq type='set'><enable xmlns='urn:xmpp:carbons:2'/></iq>
        alice/laptop asks <iq type='set'><enable xmlns='urn:xmpp:carbons:2'/></iq>
        bob/desk sends <message type='chat' id='in' to='{alice/phone}'><body>in</body></message>
        alice/laptop sends <message type='chat' id='out' to='{bob/desk}'><body>out</body></message>
        alice/phone asks <iq type='set'><disable xmlns='urn:xmpp:carbons:2'/></iq>
        bob/desk sends <message type='chat' id='in2' to='{alice/laptop}'><body>no copy</body></message>";
    no_difference(stage.kind, "carbons", script).await;
}

async fn b69_archive_of_the_account(stage: Stage) {
    let script = "
        sessions: alice/phone bob/desk
        alice/phone sends <presence/>
        alice/phone asks <iq type='set'><prefs xmlns='urn:xmpp:mam:2' default='always'><always/><never/></prefs></iq>
        bob/desk sends <message type='chat' id='one' to='{alice}'><body>one</body></message>
        alice/phone sends <message type='chat' id='two' to='{bob/desk}'><body>two</body></message>
        bob/desk sends <message type='chat' id='three' to='{alice/phone}'><body>three</body></message>
        alice/phone asks <iq type='set'><query xmlns='urn:xmpp:mam:2' queryid='all'/></iq>
        alice/phone asks <iq type='set'><query xmlns='urn:xmpp:mam:2' queryid='last'><set xmlns='http://jabber.org/protocol/rsm'><max>1</max><before/></set></query></iq>
        alice/phone asks <iq type='get'><query xmlns='urn:xmpp:mam:2'/></iq>";
    no_difference(stage.kind, "archive", script).await;
}

async fn b69_blocking(stage: Stage) {
    let script = "
        sessions: alice/phone bob/desk
        alice/phone sends <presence/>
        alice/phone asks <iq type='get'><blocklist xmlns='urn:xmpp:blocking'/></iq>
        alice/phone asks <iq type='set'><block xmlns='urn:xmpp:blocking'><item jid='{bob}'/></block></iq>
        bob/desk sends <message type='chat' id='blocked' to='{alice/phone}'><body>hello?</body></message>
        alice/phone sends <message type='chat' id='refused' to='{bob/desk}'><body>hello</body></message>
        alice/phone asks <iq type='get'><blocklist xmlns='urn:xmpp:blocking'/></iq>
        alice/phone asks <iq type='set'><unblock xmlns='urn:xmpp:blocking'/></iq>
        bob/desk sends <message type='chat' id='passes' to='{alice/phone}'><body>hello!</body></message>";
    no_difference(stage.kind, "blocking", script).await;
}

async fn b69_personal_eventing(stage: Stage) {
    let script = "
        sessions: alice/phone bob/desk
        alice/phone sends <presence/>
        bob/desk sends <presence/>
        alice/phone asks <iq type='set'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:example:tune'><item id='1'><tune xmlns='urn:example:tune'>la &lt; li</tune></item></publish><publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field><field var='pubsub#access_model'><value>open</value></field></x></publish-options></pubsub></iq>
        bob/desk asks <iq type='get' to='{alice}'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:example:tune'/></pubsub></iq>
        alice/phone asks <iq type='get'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:example:tune'/></pubsub></iq>
        bob/desk asks <iq type='set'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:example:tune'><item id='1'><tune xmlns='urn:example:tune'>bob's</tune></item></publish><publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field><field var='pubsub#access_model'><value>open</value></field></x></publish-options></pubsub></iq>
        alice/phone asks <iq type='set' to='{bob}'><pubsub xmlns='http://jabber.org/protocol/pubsub'><subscribe node='urn:example:tune' jid='{alice}'/></pubsub></iq>
        bob/desk asks <iq type='set'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:example:tune'><item id='2'><tune xmlns='urn:example:tune'>next</tune></item></publish></pubsub></iq>
        and alice/phone awaits message headline
        alice/phone asks <iq type='set'><pubsub xmlns='http://jabber.org/protocol/pubsub'><retract node='urn:example:tune'><item id='1'/></retract></pubsub></iq>";
    no_difference(stage.kind, "eventing", script).await;
}

async fn b69_information(stage: Stage) {
    let script = "
        sessions: alice/phone bob/desk
        alice/phone asks <iq type='get' to='example.test'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>
        alice/phone asks <iq type='get' to='example.test'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>
        alice/phone asks <iq type='get' to='rooms.example.test'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>
        alice/phone asks <iq type='get' to='{alice}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>
        alice/phone asks <iq type='get' to='example.test'><query xmlns='jabber:iq:version'/></iq>
        alice/phone asks <iq type='get'><vCard xmlns='vcard-temp'/></iq>
        alice/phone asks <iq type='set'><vCard xmlns='vcard-temp'><FN>Alice &quot;A&quot;</FN><NICKNAME>al</NICKNAME></vCard></iq>
        bob/desk asks <iq type='get' to='{alice}'><vCard xmlns='vcard-temp'/></iq>
        alice/phone asks <iq type='set'><query xmlns='jabber:iq:private'><mine xmlns='urn:example:private'>kept</mine></query></iq>
        alice/phone asks <iq type='get'><query xmlns='jabber:iq:private'><mine xmlns='urn:example:private'/></query></iq>
        alice/phone asks <iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>
        alice/phone asks <iq type='get'><query xmlns='jabber:iq:register'/></iq>";
    no_difference(stage.kind, "information", script).await;
}

async fn b69_unknown_namespaces(stage: Stage) {
    let script = "
        sessions: alice/phone bob/desk
        alice/phone sends <iq type='get' id='u1' to='{bob/desk}'><query xmlns='urn:example:unknown' a='1'>what?</query></iq>
        bob/desk sends <iq type='result' id='u1' to='{alice/phone}'><query xmlns='urn:example:unknown'>that</query></iq>
        bob/desk sends <iq type='set' id='u2' to='{alice/phone}'><query xmlns='urn:example:unknown'/></iq>
        alice/phone sends <iq type='error' id='u2' to='{bob/desk}'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>
        bob/desk sends <iq type='get' id='u3' to='{alice/phone}'><ping xmlns='urn:xmpp:ping'/></iq>
        alice/phone sends <iq type='result' id='u3' to='{bob/desk}'/>
        alice/phone asks <iq type='get' to='{bob}'><query xmlns='urn:example:unknown'/></iq>
        alice/phone asks <iq type='get' to='example.test'><query xmlns='urn:example:unknown'/></iq>
        alice/phone asks <iq type='set'><query xmlns='urn:example:unknown'/></iq>
        alice/phone asks <iq type='get' to='{bob}/gone'><query xmlns='urn:example:unknown'/></iq>
        alice/phone asks <iq type='get' to='example.test'/>
        alice/phone sends <message id='u4' to='{bob/desk}'><x xmlns='urn:example:unknown'><y xmlns=''/></x></message>
        alice/phone sends <presence id='u5' to='{bob/desk}'><x xmlns='urn:example:unknown'/></presence>";
    no_difference(stage.kind, "unknown", script).await;
}

async fn b69_client_state(stage: Stage) {
    let script = "
        sessions: alice/phone bob/desk
        alice/phone sends <presence/>
        alice/phone sends <inactive xmlns='urn:xmpp:csi:0'/>
        bob/desk sends <message type='chat' id='urgent' to='{alice/phone}'><body>now</body></message>
        alice/phone sends <active xmlns='urn:xmpp:csi:0'/>
        bob/desk sends <message type='chat' id='later' to='{alice/phone}'><body>later</body></message>";
    no_difference(stage.kind, "state", script).await;
}

async fn b69_file_transfer_negotiation(stage: Stage) {
    let script = "
        sessions: alice/phone bob/desk
        alice/phone sends <iq type='set' id='j1' to='{bob/desk}'><jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' initiator='{alice/phone}' sid='a1'><content creator='initiator' name='file'><description xmlns='urn:xmpp:jingle:apps:file-transfer:5'><file><name>tea.jpg</name><size>6144</size></file></description><transport xmlns='urn:xmpp:jingle:transports:ibb:1' block-size='4096' sid='b1'/></content></jingle></iq>
        bob/desk sends <iq type='result' id='j1' to='{alice/phone}'/>
        bob/desk sends <iq type='set' id='j2' to='{alice/phone}'><jingle xmlns='urn:xmpp:jingle:1' action='session-accept' responder='{bob/desk}' sid='a1'/></iq>
        alice/phone sends <iq type='result' id='j2' to='{bob/desk}'/>
        alice/phone sends <iq type='set' id='j3' to='{bob/desk}'><open xmlns='http://jabber.org/protocol/ibb' block-size='4096' sid='b1' stanza='iq'/></iq>
        bob/desk sends <iq type='result' id='j3' to='{alice/phone}'/>
        alice/phone sends <iq type='set' id='j4' to='{bob/desk}'><data xmlns='http://jabber.org/protocol/ibb' seq='0' sid='b1'>qANQR1DBwU4DX7jmYZnncmUQB/9KuKBddzQH+tZ1ZywKK0yHKnq57kWq+RFtQdCJ</data></iq>
        bob/desk sends <iq type='result' id='j4' to='{alice/phone}'/>";
    no_difference(stage.kind, "file", script).await;
}

/// Some end a stream, which a script cannot tell.
async fn b69_unknown_nonzas(mut stage: Stage) {
    for nonza in [
        "<foo xmlns='urn:example:unknown'/>",
        "<foo/>",
        "<a xmlns='urn:xmpp:sm:99' h='1'/>",
        "<message xmlns='jabber:server' to='bob@example.test'/>",
        "<stream:foo/>",
    ] {
        let mut outcomes = Vec::new();
        for direct in [true, false] {
            stage.direct = direct;
            let mut client = stage.session(&stage.account("alice").await, "phone").await;
            client.send_raw(nonza).await.unwrap();
            client
                .send_iq("get", None, "<ping xmlns='urn:xmpp:ping'/>")
                .await
                .unwrap();
            let answer = client.recv().await.unwrap();
            let ends = answer.is("error", NS_STREAM);
            let condition = answer
                .children()
                .next()
                .filter(|_| ends)
                .map(|child| child.name().to_owned());
            outcomes.push((answer.name().to_owned(), condition));
        }
        assert_eq!(
            outcomes[0], outcomes[1],
            "{nonza}: directly, and through the proxy"
        );
    }
}
