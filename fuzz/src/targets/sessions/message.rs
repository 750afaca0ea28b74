//! Messages, as they are and as somebody on the way would have them.

use prost::Message as _;
use proto::{
    bytes::Bytes,
    plastron::attest::v1::{self as wire, LogKind, answer},
};

/// In which form a message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// The first one of a connection.
    Evidence,
    /// An answer of AttestAgent.
    Answer,
    /// An answer in a session.
    Supplied,
}

enum Parsed {
    Evidence(wire::Evidence),
    Answer(wire::Answer),
    Supplied(wire::Supplied),
}

/// How a message is changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) how: u8,
    pub(super) by: u8,
}

impl Change {
    /// The message as it is delivered. `other` is one that somebody kept.
    pub(super) fn of(self, form: Form, payload: &[u8], other: &[u8]) -> Vec<u8> {
        let at = usize::from(self.by) * payload.len() / 256;
        match self.how % 16 {
            0..4 => payload.into(),
            4 => {
                let mut changed = payload.to_vec();
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= 1 << (self.how / 16 % 8);
                }
                changed
            }
            5 => payload[..at].into(),
            how => {
                let Some(mut parsed) = Parsed::read(form, payload) else {
                    return payload.into();
                };
                self.restructure(how, &mut parsed, other);
                parsed.write()
            }
        }
    }

    fn restructure(self, how: u8, parsed: &mut Parsed, other: &[u8]) {
        let forms = [Form::Evidence, Form::Answer, Form::Supplied];
        let mut others = forms
            .into_iter()
            .filter_map(|form| Parsed::read(form, other))
            .filter(|other| other.quote().is_some());
        let mut other = others.next();
        let other_quote = other.as_ref().and_then(Parsed::quote).cloned();
        match how {
            6 => parsed.set_quote(other_quote),
            7 => {
                if let (Some(quote), Some(other)) = (parsed.quote_mut(), other_quote) {
                    quote.signature = other.signature;
                }
            }
            8 => {
                if let (Some(logs), Some(others)) =
                    (parsed.logs_mut(), other.as_mut().and_then(Parsed::logs_mut))
                {
                    logs.clone_from(others);
                }
            }
            14 => {
                if let (Parsed::Evidence(evidence), Some(Parsed::Evidence(other))) = (parsed, other) {
                    evidence.hello = other.hello;
                }
            }
            15 => {
                if let Some(quote) = parsed.quote_mut() {
                    quote.values = vec![wire::PcrValue {
                        hash_alg: 0x0b,
                        index: u32::from(self.by % 24),
                        digest: vec![self.by; 32].into(),
                    }];
                }
            }
            how => self.relog(how, parsed),
        }
    }

    /// Changes logs.
    fn relog(self, how: u8, parsed: &mut Parsed) {
        let Some(logs) = parsed.logs_mut() else { return };
        let of = |kind: LogKind| move |log: &&mut wire::Log| log.kind() == kind;
        match how {
            9 => logs.clear(),
            10 => logs.extend_from_within(..),
            11 => {
                if let Some(list) = logs.iter_mut().find(of(LogKind::Ima)) {
                    list.more ^= self.by.is_multiple_of(2);
                    list.offset += u64::from(self.by / 2 % 4);
                }
            }
            12 => {
                if let Some(list) = logs.iter_mut().find(of(LogKind::Ima)) {
                    let len = usize::from(self.by) * list.content.len() / 256;
                    list.content.truncate(len);
                }
            }
            _ => {
                if let Some(log) = logs.iter_mut().find(of(LogKind::EventLog)) {
                    let mut content = log.content.to_vec();
                    let at = usize::from(self.by) * content.len() / 256;
                    if let Some(byte) = content.get_mut(at) {
                        *byte ^= 1;
                    }
                    log.content = Bytes::from(content);
                }
            }
        }
    }
}

impl Parsed {
    fn read(form: Form, payload: &[u8]) -> Option<Self> {
        Some(match form {
            Form::Evidence => Self::Evidence(wire::Evidence::decode(payload).ok()?),
            Form::Answer => Self::Answer(wire::Answer::decode(payload).ok()?),
            Form::Supplied => Self::Supplied(wire::Supplied::decode(payload).ok()?),
        })
    }

    fn write(&self) -> Vec<u8> {
        match self {
            Self::Evidence(evidence) => evidence.encode_to_vec(),
            Self::Answer(answer) => answer.encode_to_vec(),
            Self::Supplied(supplied) => supplied.encode_to_vec(),
        }
    }

    fn supplied_mut(&mut self) -> Option<&mut wire::Supplied> {
        match self {
            Self::Supplied(supplied) => Some(supplied),
            Self::Answer(wire::Answer {
                step: Some(answer::Step::Supplied(supplied)),
            }) => Some(supplied),
            Self::Answer(_) | Self::Evidence(_) => None,
        }
    }

    fn logs_mut(&mut self) -> Option<&mut Vec<wire::Log>> {
        self.supplied_mut().map(|supplied| &mut supplied.logs)
    }

    fn quote_mut(&mut self) -> Option<&mut wire::Quote> {
        match self {
            Self::Evidence(evidence) => evidence.quote.as_mut(),
            other => other.supplied_mut()?.quote.as_mut(),
        }
    }

    fn set_quote(&mut self, quote: Option<wire::Quote>) {
        match self {
            Self::Evidence(evidence) => evidence.quote = quote,
            other => {
                if let Some(supplied) = other.supplied_mut() {
                    supplied.quote = quote;
                }
            }
        }
    }

    fn quote(&self) -> Option<&wire::Quote> {
        match self {
            Self::Evidence(evidence) => evidence.quote.as_ref(),
            Self::Answer(wire::Answer {
                step: Some(answer::Step::Supplied(supplied)),
            })
            | Self::Supplied(supplied) => supplied.quote.as_ref(),
            Self::Answer(_) => None,
        }
    }
}

/// The statement that a message brings, and its hello where it has one.
pub(super) fn statement(form: Form, payload: &[u8]) -> Option<Vec<u8>> {
    let parsed = Parsed::read(form, payload)?;
    parsed.quote().map(|quote| quote.attest.to_vec())
}

/// The hello of a first message.
pub(super) fn hello(payload: &[u8]) -> Option<Vec<u8>> {
    let evidence = wire::Evidence::decode(payload).ok()?;
    Some(evidence.hello.to_vec())
}

/// Whether a message can be read.
pub(super) fn is_readable(form: Form, payload: &[u8]) -> bool {
    Parsed::read(form, payload).is_some()
}
