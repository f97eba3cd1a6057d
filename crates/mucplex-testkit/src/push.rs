//! A push service (XEP-0357): a component that a server publishes to when it wakes a phone.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use minidom::Element;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::client::{Client, ClientError};
use crate::component::Component;
use crate::server::Server;
use crate::xml::{NS_PUSH, NS_STANZAS, Stanza, escape};

const NS_PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const NS_DATA: &str = "jabber:x:data";

/// How long [`PushService::wait_until`] waits unless told otherwise.
const LIMIT: Duration = Duration::from_secs(10);

/// One notification that a server has published.
#[derive(Debug, Clone)]
pub struct Push {
    /// Who has published it.
    pub from: String,
    /// The node, which stands for a device.
    pub node: String,
    /// The secret in the publish-options.
    pub secret: Option<String>,
    /// The fields of the summary form, without its type, in their order.
    pub summary: Vec<(String, String)>,
    /// The whole IQ.
    pub stanza: Stanza,
}

impl Push {
    /// A field of the summary, as `last-message-body`.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.summary.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn read(stanza: &Stanza) -> Option<Self> {
        let pubsub = stanza.get_child("pubsub", NS_PUBSUB)?;
        let publish = pubsub.get_child("publish", NS_PUBSUB)?;
        let notification = publish
            .get_child("item", NS_PUBSUB)?
            .get_child("notification", NS_PUSH)?;
        let summary = notification.get_child("x", NS_DATA);
        let options = pubsub.get_child("publish-options", NS_PUBSUB);
        let options = options.and_then(|options| options.get_child("x", NS_DATA));
        let mut options = options.map(fields).unwrap_or_default().into_iter();
        Some(Self {
            from: stanza.from().unwrap_or_default().to_owned(),
            node: publish.attr("node").unwrap_or_default().to_owned(),
            secret: options.find_map(|(key, value)| (key == "secret").then_some(value)),
            summary: summary.map(fields).unwrap_or_default(),
            stanza: stanza.clone(),
        })
    }
}

/// The fields of a form, without its type.
fn fields(form: &Element) -> Vec<(String, String)> {
    let fields = form.children().filter(|it| it.is("field", NS_DATA));
    let fields = fields.filter_map(|field| {
        let value = field.get_child("value", NS_DATA);
        let value = value.map(Element::text).unwrap_or_default();
        Some((field.attr("var")?.to_owned(), value))
    });
    fields.filter(|(name, _)| name != "FORM_TYPE").collect()
}

#[derive(Default)]
struct Shared {
    pushes: Vec<Push>,
    refusal: Option<String>,
}

/// A push service that records what it gets.
pub struct PushService {
    jid: String,
    shared: Arc<Mutex<Shared>>,
    changed: watch::Receiver<()>,
    task: AbortHandle,
}

impl PushService {
    /// Connects a service with a server of the kit, under a domain of its own.
    pub async fn start(server: &Server) -> Result<Self, ClientError> {
        Self::start_as(server, &Component::new_domain()).await
    }

    /// The same under a domain that was in use before: after a restart of the server.
    pub async fn start_as(server: &Server, domain: &str) -> Result<Self, ClientError> {
        let component = Component::connect(server, domain).await?;
        let shared = Arc::default();
        let (notify, changed) = watch::channel(());
        let task = tokio::spawn(serve(component, Arc::clone(&shared), notify));
        Ok(Self {
            jid: domain.to_owned(),
            shared,
            changed,
            task: task.abort_handle(),
        })
    }

    /// Its address.
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// Answers what is published with this error condition, or with a result again.
    pub fn refuse(&self, condition: Option<&str>) {
        lock(&self.shared).refusal = condition.map(str::to_owned);
    }

    /// What was published so far, oldest first.
    pub fn pushes(&self) -> Vec<Push> {
        lock(&self.shared).pushes.clone()
    }

    /// Forgets what was published and gives it.
    pub fn take(&self) -> Vec<Push> {
        std::mem::take(&mut lock(&self.shared).pushes)
    }

    /// Waits until what was published satisfies `condition`, at most 10 s; whether it does.
    pub async fn wait_until(&self, condition: impl Fn(&[Push]) -> bool) -> bool {
        self.wait_within(LIMIT, condition).await
    }

    /// The same with another limit.
    pub async fn wait_within(&self, limit: Duration, condition: impl Fn(&[Push]) -> bool) -> bool {
        let mut changed = self.changed.clone();
        let holds = || condition(&lock(&self.shared).pushes);
        let wait = async {
            while !holds() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(limit, wait).await;
        holds()
    }
}

impl Drop for PushService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("no panic happens under this lock")
}

async fn serve(mut component: Component, shared: Arc<Mutex<Shared>>, notify: watch::Sender<()>) {
    // It has nothing to do until the server wakes somebody.
    component.set_timeout(Duration::from_secs(24 * 60 * 60));
    while let Ok(stanza) = component.recv().await {
        if stanza.name() != "iq" || !matches!(stanza.kind(), Some("get" | "set")) {
            continue;
        }
        let push = Push::read(&stanza);
        let refusal = match push {
            Some(_) => lock(&shared).refusal.clone(),
            None => Some("service-unavailable".to_owned()),
        };
        let answer = answer(&stanza, refusal.as_deref());
        if let Some(push) = push {
            lock(&shared).pushes.push(push);
        }
        notify.send_replace(());
        if component.send_raw(answer).await.is_err() {
            return;
        }
    }
}

fn answer(request: &Stanza, refusal: Option<&str>) -> String {
    let attribute = |value: Option<&str>| escape(value.unwrap_or_default());
    let (from, to, id) = (request.to(), request.from(), request.id());
    let (from, to, id) = (attribute(from), attribute(to), attribute(id));
    match refusal {
        None => format!("<iq type='result' from='{from}' to='{to}' id='{id}'/>"),
        Some(condition) => format!(
            "<iq type='error' from='{from}' to='{to}' id='{id}'><error type='cancel'>\
             <{condition} xmlns='{NS_STANZAS}'/></error></iq>"
        ),
    }
}

impl Client {
    /// Lets the server push to a service for this session (XEP-0357 5).
    pub async fn enable_push(
        &mut self,
        service: &str,
        node: &str,
        secret: Option<&str>,
    ) -> Result<(), ClientError> {
        let (service, node) = (escape(service), escape(node));
        let options = secret.map(|secret| {
            format!(
                "<x xmlns='{NS_DATA}' type='submit'><field var='FORM_TYPE'>\
                 <value>{NS_PUBSUB}#publish-options</value></field>\
                 <field var='secret'><value>{}</value></field></x>",
                escape(secret)
            )
        });
        let options = options.unwrap_or_default();
        let enable =
            format!("<enable xmlns='{NS_PUSH}' jid='{service}' node='{node}'>{options}</enable>");
        self.expect_result("set", &enable).await
    }

    /// Ends it, for all nodes of the service or one (XEP-0357 6).
    pub async fn disable_push(
        &mut self,
        service: &str,
        node: Option<&str>,
    ) -> Result<(), ClientError> {
        let service = escape(service);
        let node = node.map(|node| format!(" node='{}'", escape(node)));
        let node = node.unwrap_or_default();
        let disable = format!("<disable xmlns='{NS_PUSH}' jid='{service}'{node}/>");
        self.expect_result("set", &disable).await
    }

    async fn expect_result(&mut self, kind: &str, payload: &str) -> Result<(), ClientError> {
        let answer = self.iq(kind, None, payload).await?;
        if answer.kind() == Some("result") {
            return Ok(());
        }
        Err(ClientError::unexpected("a result", &answer))
    }
}
