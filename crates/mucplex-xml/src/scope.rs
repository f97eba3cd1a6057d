//! Which prefix means which namespace, while an element is scanned.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use smallvec::SmallVec;

use crate::{FramingError, escape::decode_attribute, span::Span};

pub(crate) const XML: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
pub(crate) const CLIENT: &str = "jabber:client";
pub(crate) const STREAMS: &str = "http://etherx.jabber.org/streams";

/// A prefix and the namespace it is bound to.
type Binding = (Box<str>, Box<str>);

/// What a stream header declares for everything on its stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ambient {
    /// The default namespace; empty where none is declared.
    pub(crate) default: Box<str>,
    /// Prefixes and their namespaces, sorted by prefix.
    prefixes: Vec<Binding>,
}

impl Ambient {
    pub(crate) fn new(default: Box<str>, mut prefixes: Vec<Binding>) -> Self {
        prefixes.sort_unstable();
        Self { default, prefixes }
    }

    /// What a frame that stands alone may rely on: a stream as XMPP clients and servers open it.
    pub(crate) fn standard() -> &'static Arc<Self> {
        static STANDARD: LazyLock<Arc<Ambient>> = LazyLock::new(|| {
            Arc::new(Ambient::new(
                CLIENT.into(),
                vec![("stream".into(), STREAMS.into())],
            ))
        });
        &STANDARD
    }

    /// The namespace of `prefix`.
    pub(crate) fn get(&self, prefix: &[u8]) -> Option<&str> {
        self.find(prefix).map(|(_, (_, uri))| &**uri)
    }

    /// The binding at an index that [`Scope::used`] gave.
    pub(crate) fn binding(&self, index: usize) -> Option<(&str, &str)> {
        self.prefixes
            .get(index)
            .map(|(prefix, uri)| (&**prefix, &**uri))
    }

    fn find(&self, prefix: &[u8]) -> Option<(usize, &Binding)> {
        let index = self
            .prefixes
            .binary_search_by(|(known, _)| known.as_bytes().cmp(prefix))
            .ok()?;
        self.prefixes.get(index).map(|binding| (index, binding))
    }
}

/// A namespace, by number: equal numbers, equal names. So long names are compared once, when they
/// are declared, and never again for each attribute that uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamespaceId(u32);

/// The declarations in scope at one place of an element.
///
/// Ordered maps instead of hashed ones: a peer that chooses the prefixes gains nothing, and no
/// random key is needed.
#[derive(Debug)]
pub(crate) struct Scope {
    ambient: Arc<Ambient>,
    /// Prefixes bound inside the frame, the innermost binding last.
    prefixes: BTreeMap<Box<[u8]>, SmallVec<[NamespaceId; 2]>>,
    /// The namespaces bound inside the frame that the header does not know.
    names: BTreeMap<Box<str>, NamespaceId>,
    /// Which prefix was bound by the element at which depth, in order.
    log: Vec<(usize, Span)>,
    /// Bindings of the header that the frame relies on and not every stream has.
    used: SmallVec<[usize; 4]>,
}

impl Scope {
    pub(crate) fn new(ambient: Arc<Ambient>) -> Self {
        Self {
            ambient,
            prefixes: BTreeMap::new(),
            names: BTreeMap::new(),
            log: Vec::new(),
            used: SmallVec::new(),
        }
    }

    pub(crate) fn ambient(&self) -> &Arc<Ambient> {
        &self.ambient
    }

    /// Forgets what the last frame declared.
    pub(crate) fn clear(&mut self) {
        if !self.prefixes.is_empty() {
            self.prefixes.clear();
            self.names.clear();
        }
        self.log.clear();
        self.used.clear();
    }

    /// Indices of the header's bindings, other than the usual `stream`, that the frame uses.
    pub(crate) fn used(&self) -> &[usize] {
        &self.used
    }

    /// Binds `prefix` to the raw attribute value `value` for the element at `depth`.
    pub(crate) fn declare(
        &mut self,
        data: &[u8],
        prefix: Span,
        value: Span,
        depth: usize,
    ) -> Result<(), FramingError> {
        let uri = decode_attribute(value.of(data));
        let name = prefix.of(data);
        check_prefix(name, &uri)?;
        if name == b"xml" {
            return Ok(());
        }
        let id = self.id_of(uri);
        self.log.push((depth, prefix));
        match self.prefixes.get_mut(name) {
            Some(bindings) => bindings.push(id),
            None => {
                self.prefixes
                    .insert(name.into(), SmallVec::from_slice(&[id]));
            }
        }
        Ok(())
    }

    /// Ends the declarations of the element at `depth`.
    pub(crate) fn leave(&mut self, data: &[u8], depth: usize) {
        while let Some((_, prefix)) = self.log.pop_if(|(declared_at, _)| *declared_at >= depth) {
            if let Some(bindings) = self.prefixes.get_mut(prefix.of(data)) {
                bindings.pop();
            }
        }
    }

    /// The namespace of a prefix that is used.
    pub(crate) fn resolve(&mut self, prefix: &[u8]) -> Result<NamespaceId, FramingError> {
        match prefix {
            b"xml" => return Ok(NamespaceId(0)),
            b"xmlns" => return Err(FramingError::Declaration("xmlns is no prefix of a name")),
            _ => {}
        }
        if let Some(&id) = self.prefixes.get(prefix).and_then(|ids| ids.last()) {
            return Ok(id);
        }
        let (index, (name, uri)) = self
            .ambient
            .find(prefix)
            .ok_or(FramingError::UnboundPrefix)?;
        let usual = &**name == "stream" && &**uri == STREAMS;
        if !usual && !self.used.contains(&index) {
            self.used.push(index);
        }
        Ok(self.ambient_id(uri).unwrap_or(NamespaceId(0)))
    }

    /// The number of a namespace the header binds: that of the first prefix bound to it, plus one.
    fn ambient_id(&self, uri: &str) -> Option<NamespaceId> {
        let index = self
            .ambient
            .prefixes
            .iter()
            .position(|(_, known)| &**known == uri)?;
        Some(NamespaceId(u32::try_from(index).ok()?.saturating_add(1)))
    }

    fn id_of(&mut self, uri: Cow<'_, str>) -> NamespaceId {
        if let Some(id) = self.ambient_id(&uri) {
            return id;
        }
        if let Some(&id) = self.names.get(&*uri) {
            return id;
        }
        let next = self.ambient.prefixes.len() + self.names.len() + 1;
        let id = NamespaceId(u32::try_from(next).unwrap_or(u32::MAX));
        self.names.insert(uri.into(), id);
        id
    }
}

/// The constraints on `xmlns:prefix='uri'` of "Namespaces in XML 1.0" 3.
fn check_prefix(prefix: &[u8], uri: &str) -> Result<(), FramingError> {
    match (prefix, uri) {
        (b"xml", XML) => Ok(()),
        (b"xml", _) => Err(FramingError::Declaration("xml is bound to its namespace")),
        (b"xmlns", _) => Err(FramingError::Declaration("xmlns cannot be bound")),
        (_, XML | XMLNS) => Err(FramingError::Declaration("namespace is reserved")),
        (_, "") => Err(FramingError::Declaration("a prefix cannot be unbound")),
        _ => Ok(()),
    }
}

/// The constraints on `xmlns='uri'`, raw.
pub(crate) fn check_default(value: &[u8]) -> Result<(), FramingError> {
    // A value is never longer than it is written, and most are short.
    if value.len() < XMLNS.len() {
        return Ok(());
    }
    match &*decode_attribute(value) {
        XML | XMLNS => Err(FramingError::Declaration("namespace is reserved")),
        _ => Ok(()),
    }
}
