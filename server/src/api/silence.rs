//! Agents that say nothing, for tests of how long they are waited for.

use std::marker::PhantomData;

use futures::StreamExt;
use http_body_util::{BodyStream, Empty, StreamBody};
use proto::bytes::Bytes;
use tonic::{
    Status, Streaming,
    codec::{DecodeBuf, Decoder},
};

/// Decodes what never comes.
struct Nothing<T>(PhantomData<fn() -> T>);

impl<T> Decoder for Nothing<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, _: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        Ok(None)
    }
}

/// A stream on which nothing comes, and that does not end.
pub(super) fn silent<T: 'static>() -> Streaming<T> {
    let frames = BodyStream::new(Empty::<Bytes>::new()).chain(futures::stream::pending());
    Streaming::new_request(Nothing(PhantomData), StreamBody::new(frames), None, None)
}
