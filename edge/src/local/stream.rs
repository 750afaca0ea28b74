//! A local connection as HTTP/2 is to read it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};

use super::authority::Authorities;

/// A connection to a local socket that serves HTTP/2. What clients name as `:authority` is made legal on the way
/// in: gRPC's C-core, and so Python, C++, Ruby and PHP, names the socket's path there, which hyper refuses.
#[derive(Debug)]
pub struct Stream {
    inner: UnixStream,
    authorities: Authorities,
}

impl Stream {
    /// Reads from and writes to `accepted`, of which nothing was read before.
    #[must_use]
    pub fn new(accepted: UnixStream) -> Self {
        Self {
            inner: accepted,
            authorities: Authorities::new(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        if let Some(read) = buffer.filled_mut().get_mut(before..) {
            self.authorities.rewrite(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use http::{Request, Response};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::watch,
    };
    use tonic::body::Body;

    use super::*;
    use crate::grpc::{self, Course, Limits};

    /// A call as gRPC's C-core makes it: preface, SETTINGS, HEADERS that end the stream.
    const CALL: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \x00\x00\x00\x04\x00\x00\x00\x00\x00\
        \x00\x00\x21\x01\x05\x00\x00\x00\x01\
        \x83\x86\x84\x40\x0a:authority\x11tmp%2Fagent.sock%";
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;

    #[tokio::test]
    async fn a_call_that_names_the_path_as_authority_is_answered() {
        let (mut client, accepted) = UnixStream::pair().unwrap();
        let service = tower::service_fn(|request: Request<Body>| async move {
            assert_eq!(request.uri().host(), Some("tmp-2Fagent.sock-"));
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let (_course, followed) = watch::channel(Course::Serve);
        let serving = grpc::serve(
            Stream::new(accepted),
            service,
            Arc::new(()),
            Limits::default(),
            followed,
        );
        let calling = async move {
            client.write_all(CALL).await.unwrap();
            answer(&mut client).await
        };
        let (served, answer) = tokio::join!(serving, calling);
        served.unwrap();
        assert_eq!(answer, HEADERS);
    }

    /// The kind of the frame that ends the call.
    async fn answer(client: &mut UnixStream) -> u8 {
        loop {
            let mut header = [0; 9];
            client.read_exact(&mut header).await.unwrap();
            let length = usize::from(header[1]) << 8 | usize::from(header[2]);
            client.read_exact(&mut vec![0; length]).await.unwrap();
            if [HEADERS, RST_STREAM].contains(&header[3]) {
                return header[3];
            }
        }
    }
}
