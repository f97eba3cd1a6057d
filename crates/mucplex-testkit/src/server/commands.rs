//! Commands of a server's administrator, for servers that were started with
//! [`Options::commands`](super::Options::commands).

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Kind, Server};
use crate::{DOMAIN, ROOMS};

impl Server {
    /// Runs a command and gives the last line of its answer: on Prosody a line of its console; on
    /// ejabberd the name of a command of `ejabberdctl`, whose arguments are JSON.
    ///
    /// # Errors
    /// When the server does not take it; a command that fails says so in its answer.
    ///
    /// # Panics
    /// When the server was started without [`Options::commands`](super::Options::commands).
    pub async fn command(&self, command: &str, arguments: &str) -> io::Result<String> {
        let address = self.ports.commands.expect("a server that takes commands");
        let answer = match self.kind {
            Kind::Prosody => console(address, command).await,
            Kind::Ejabberd => api(address, command, arguments).await,
        };
        answer.map(|answer| answer.lines().last().unwrap_or_default().to_owned())
    }

    /// Ends the room service and starts it again, with nobody in its rooms. Persistent rooms are
    /// there again. ejabberd tells the occupants (332), Prosody nobody.
    pub async fn lose_occupants(&self) -> io::Result<()> {
        match self.kind {
            Kind::Prosody => {
                self.command(&format!("module:unload('muc', '{ROOMS}')"), "")
                    .await?;
                // It keeps who is in a room while it is away.
                let data = self.dir.path().join("data").join(ROOMS.replace('.', "%2e"));
                std::fs::remove_dir_all(data.join("state"))?;
                self.command(&format!("module:load('muc', '{ROOMS}')"), "")
                    .await?;
            }
            Kind::Ejabberd => {
                let arguments = format!(r#"{{"host": "{DOMAIN}", "module": "mod_muc"}}"#);
                self.command("restart_module", &arguments).await?;
            }
        }
        Ok(())
    }

    /// Lets the server itself ping a client (XEP-0199 4.1), with this id. Its answer goes to the
    /// server, which has asked nothing.
    pub async fn ping(&self, full_jid: &str, id: &str) -> io::Result<()> {
        match self.kind {
            Kind::Prosody => {
                let line = format!(
                    "> prosody.core_route_stanza(prosody.hosts['{DOMAIN}'], require 'util.stanza'.iq(\
                     {{ type = 'get', from = '{DOMAIN}', to = '{full_jid}', id = '{id}' }})\
                     :tag('ping', {{ xmlns = 'urn:xmpp:ping' }}))"
                );
                self.command(&line, "").await?;
            }
            Kind::Ejabberd => {
                let arguments = format!(
                    r#"{{"from": "{DOMAIN}", "to": "{full_jid}", "stanza": "<iq type='get' id='{id}'><ping xmlns='urn:xmpp:ping'/></iq>"}}"#
                );
                self.command("send_stanza", &arguments).await?;
            }
        }
        Ok(())
    }
}

/// Runs a command of Prosody's console.
async fn console(address: SocketAddr, command: &str) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    // A NUL stands for the prompt: one at the start, one behind the answer.
    let mut answer = Vec::new();
    for _ in 0..2 {
        answer.clear();
        stream.read_until(0, &mut answer).await?;
    }
    Ok(String::from_utf8_lossy(&answer)
        .trim_end_matches(['\0', '\r', '\n'])
        .to_owned())
}

/// Runs a command of ejabberd by HTTP (`mod_http_api`).
async fn api(address: SocketAddr, command: &str, arguments: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let length = arguments.len();
    let request = format!(
        "POST /api/{command} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{arguments}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
