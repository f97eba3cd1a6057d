use std::net::Ipv4Addr;

use mucplex_net::{DialError, Dialer, Service, Target};
use tokio::net::TcpListener;

use crate::dns::Zone;

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port nobody listens on.
async fn dead_port() -> u16 {
    listen().await.1
}

fn srv(service: Service) -> Target {
    Target::Srv {
        domain: "example.org".into(),
        service,
    }
}

async fn dial(zone: Zone, target: &Target) -> Result<u16, DialError> {
    let dialer = Dialer::with_resolver(zone.serve().await);
    let stream = dialer.dial(target).await?;
    assert!(stream.nodelay().unwrap());
    Ok(stream.peer_addr().unwrap().port())
}

#[tokio::test]
async fn an_address_needs_no_names() {
    let (_listener, port) = listen().await;
    let target = Target::Host {
        host: "127.0.0.1".into(),
        port,
    };
    assert_eq!(dial(Zone::default(), &target).await.unwrap(), port);
}

#[tokio::test]
async fn a_host_is_resolved() {
    let (_listener, port) = listen().await;
    let zone = Zone::default().a("xmpp.example.org", Ipv4Addr::LOCALHOST);
    let target = Target::Host {
        host: "xmpp.example.org".into(),
        port,
    };
    assert_eq!(dial(zone, &target).await.unwrap(), port);
}

#[tokio::test]
async fn every_address_of_a_host_is_tried() {
    let (_listener, port) = listen().await;
    // Nobody listens on the other loopback address.
    let zone = Zone::default()
        .a("h.example", Ipv4Addr::new(127, 9, 9, 9))
        .a("h.example", Ipv4Addr::LOCALHOST);
    let target = Target::Host {
        host: "h.example".into(),
        port,
    };
    assert_eq!(dial(zone, &target).await.unwrap(), port);
}

#[tokio::test]
async fn srv_targets_are_tried_by_priority() {
    let (_first, first) = listen().await;
    let (_second, second) = listen().await;
    let name = "_xmpp-client._tcp.example.org";
    let zone = || {
        Zone::default()
            .a("a.example", Ipv4Addr::LOCALHOST)
            .a("b.example", Ipv4Addr::LOCALHOST)
    };
    let both = zone()
        .srv(name, 20, 0, second, "b.example")
        .srv(name, 10, 0, first, "a.example");
    assert_eq!(dial(both, &srv(Service::Client)).await.unwrap(), first);

    let dead = dead_port().await;
    let one_down = zone()
        .srv(name, 20, 0, second, "b.example")
        .srv(name, 10, 0, dead, "a.example");
    assert_eq!(dial(one_down, &srv(Service::Client)).await.unwrap(), second);

    let no_name =
        zone()
            .srv(name, 20, 0, second, "b.example")
            .srv(name, 10, 0, first, "no.example");
    assert_eq!(dial(no_name, &srv(Service::Client)).await.unwrap(), second);
}

#[tokio::test]
async fn weights_share_the_load() {
    let (_heavy, heavy) = listen().await;
    let (_light, light) = listen().await;
    let name = "_xmpps-client._tcp.example.org";
    let zone = Zone::default()
        .a("a.example", Ipv4Addr::LOCALHOST)
        .srv(name, 5, 1, light, "a.example")
        .srv(name, 5, 60, heavy, "a.example");
    let dialer = Dialer::with_resolver(zone.serve().await);
    let mut drawn = 0;
    for _ in 0..50 {
        let stream = dialer.dial(&srv(Service::DirectTlsClient)).await.unwrap();
        drawn += usize::from(stream.peer_addr().unwrap().port() == heavy);
    }
    // One in 31 goes to the light one; fewer than 30 of 50 to the heavy one is a chance of less
    // than 10^-20.
    assert!(drawn >= 30, "{drawn} of 50");
}

#[tokio::test]
async fn the_root_target_means_not_offered() {
    let zone = Zone::default().a("example.org", Ipv4Addr::LOCALHOST).srv(
        "_xmpps-client._tcp.example.org",
        0,
        0,
        0,
        ".",
    );
    let error = dial(zone, &srv(Service::DirectTlsClient))
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::NotOffered(_)), "{error}");
}

#[tokio::test]
async fn without_srv_records_it_is_the_domain_itself() {
    // On the standard port, which may be taken or not: the address that was tried tells.
    let zone = Zone::default().a("example.org", Ipv4Addr::new(127, 9, 9, 8));
    let error = dial(zone, &srv(Service::DirectTlsClient))
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("127.9.9.8:5223: "), "{error}");
}

#[tokio::test]
async fn a_broken_name_server_is_no_lack_of_records() {
    let zone = Zone::default()
        .a("example.org", Ipv4Addr::LOCALHOST)
        .broken("_xmpp-client._tcp.example.org");
    let error = dial(zone, &srv(Service::Client)).await.unwrap_err();
    assert!(matches!(error, DialError::Resolve { .. }), "{error}");
}

#[tokio::test]
async fn the_last_failure_is_told() {
    let port = dead_port().await;
    let target = Target::Host {
        host: "127.0.0.1".into(),
        port,
    };
    let error = dial(Zone::default(), &target).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("127.0.0.1:{port}: ")),
        "{error}"
    );
    assert_eq!(target.to_string(), format!("127.0.0.1:{port}"));
}
