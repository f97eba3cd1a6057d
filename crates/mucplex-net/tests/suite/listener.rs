use mucplex_net::Listener;
use tokio::net::TcpStream;

#[tokio::test]
async fn port_zero_becomes_a_real_one() {
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    assert_ne!(address.port(), 0);
    let dialed = TcpStream::connect(address).await.unwrap();
    let (accepted, peer) = listener.accept().await;
    assert_eq!(peer, dialed.local_addr().unwrap());
    assert!(accepted.nodelay().unwrap());
}

#[tokio::test]
async fn both_families_share_a_port() {
    let four = Listener::bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let port = four.local_addr().unwrap().port();
    Listener::bind(format!("[::]:{port}").parse().unwrap()).unwrap();
}
