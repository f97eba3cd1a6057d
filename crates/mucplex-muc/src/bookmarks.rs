//! What a client or the server says of the account's bookmarks (XEP-0402; behaviour 45).
//!
//! A request counts when the server has accepted it; and whatever another client has changed, past
//! the proxy too, the server tells to those that want to know (XEP-0163 4.3.4). Not all clients do, and
//! some servers do not tell the one that has made the change, so either is enough.

use std::borrow::Cow;

use mucplex_xml::{Element, Frame};

use crate::identity::RoomAddress;
use crate::{RoomJid, ns};

/// The rooms whose bookmarks this request retracts, or sets not to be joined by themselves.
pub(crate) fn given_up(request: &Frame) -> Vec<RoomJid> {
    let root = request.root();
    let Some(pubsub) = root.child("pubsub", ns::PUBSUB) else {
        return Vec::new();
    };
    let of_bookmarks = |name| pubsub.child(name, ns::PUBSUB).filter(is_node);
    let items = |list: Option<Element<'_>>| -> Vec<RoomJid> {
        let list = list.as_ref().map(Element::children);
        let items = list.into_iter().flatten();
        let items = items.filter(|item| item.is("item", ns::PUBSUB));
        items
            .filter(|item| !is_autojoin(item))
            .filter_map(|item| room(&item))
            .collect()
    };
    let mut rooms = items(of_bookmarks("publish"));
    rooms.extend(items(of_bookmarks("retract")));
    rooms
}

/// The rooms of which the server says so.
pub(crate) fn told(message: &Frame) -> Vec<RoomJid> {
    let event = message.root().child("event", ns::PUBSUB_EVENT);
    let items = event.and_then(|event| event.child("items", ns::PUBSUB_EVENT));
    let Some(items) = items.filter(is_node) else {
        return Vec::new();
    };
    let given_up = items.children().filter(|item| {
        let published = item.is("item", ns::PUBSUB_EVENT) && !is_autojoin(item);
        published || item.is("retract", ns::PUBSUB_EVENT)
    });
    given_up.filter_map(|item| room(&item)).collect()
}

fn is_node(list: &Element<'_>) -> bool {
    list.attr("node").as_deref() == Some(ns::BOOKMARKS)
}

/// XEP-0402 3: false where it is not said.
fn is_autojoin(item: &Element<'_>) -> bool {
    let conference = item.child("conference", ns::BOOKMARKS);
    let autojoin = conference.and_then(|it| it.attr("autojoin").map(Cow::into_owned));
    matches!(autojoin.as_deref(), Some("true" | "1"))
}

fn room(item: &Element<'_>) -> Option<RoomJid> {
    let address = RoomAddress::parse(&item.attr("id")?)?;
    address.nick.is_none().then_some(address.room)
}
