//! A name server with a few records, on a loopback port.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use tokio::net::UdpSocket;

const A: u16 = 1;
const SRV: u16 = 33;

/// Records by name (no final dot) and type; a name that is not there does not exist.
#[derive(Default)]
pub(crate) struct Zone {
    records: HashMap<(String, u16), Vec<Vec<u8>>>,
    broken: Vec<String>,
}

impl Zone {
    pub(crate) fn a(mut self, name: &str, address: Ipv4Addr) -> Self {
        self.records
            .entry((name.into(), A))
            .or_default()
            .push(address.octets().to_vec());
        self
    }

    pub(crate) fn srv(
        mut self,
        name: &str,
        priority: u16,
        weight: u16,
        port: u16,
        target: &str,
    ) -> Self {
        let mut data = Vec::new();
        for number in [priority, weight, port] {
            data.extend(number.to_be_bytes());
        }
        data.extend(wire_name(target));
        self.records
            .entry((name.into(), SRV))
            .or_default()
            .push(data);
        self
    }

    /// The server fails to answer for this name (SERVFAIL).
    pub(crate) fn broken(mut self, name: &str) -> Self {
        self.broken.push(name.into());
        self
    }

    /// Serves the zone for as long as the runtime lives, and gives a resolver that asks there.
    pub(crate) async fn serve(self) -> TokioResolver {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut query).await.unwrap();
                if let Some(answer) = self.answer(&query[..length]) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        resolver(address)
    }

    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let question = query.get(12..)?;
        let mut name = Vec::new();
        let mut at = 0;
        while question[at] != 0 {
            let length = usize::from(question[at]);
            name.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
            at += length + 1;
        }
        let name = name.join(".");
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        let records = self
            .records
            .get(&(name.clone(), kind))
            .map_or(&[][..], Vec::as_slice);
        let known = self.records.keys().any(|(known, _)| *known == name);
        let code = match (self.broken.contains(&name), known) {
            (true, _) => 2,
            (false, true) => 0,
            (false, false) => 3,
        };
        let mut answer = query[..2].to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1]);
        answer.extend(u16::try_from(records.len()).unwrap().to_be_bytes());
        answer.extend([0, 0, 0, 0]);
        answer.extend(&question[..at + 5]);
        for record in records {
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 60]);
            answer.extend(u16::try_from(record.len()).unwrap().to_be_bytes());
            answer.extend(record);
        }
        Some(answer)
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn resolver(address: SocketAddr) -> TokioResolver {
    let mut connection = ConnectionConfig::new(ProtocolConfig::Udp);
    connection.port = address.port();
    let server = NameServerConfig::new(address.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().attempts = 1;
    builder.build().unwrap()
}
