//! How messages become bytes and back: as tonic does it, with buffers that begin small.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{self, BufferSettings};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Codec of all services.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// What a buffer begins with, in bytes. Each stream has two for as long as it is open: thousands of sessions, which say
/// little. tonic's are 16 times as large. A longer message has them grow.
const BUFFER: usize = 512;
/// So much is put together before it is sent, in bytes, where more is to be said: as in tonic.
const TOGETHER: usize = 32 * 1024;

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(buffers())
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER, TOGETHER)
}
