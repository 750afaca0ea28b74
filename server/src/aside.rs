//! A thread for what operators and load balancers ask. Among the connections of agents each step of an answer would wait
//! for thousands of others; to a thread of its own the kernel gives its share.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// The thread, until this is dropped.
pub(crate) struct Aside {
    handle: Handle,
    /// Taken when it ends.
    runtime: Option<Runtime>,
}

impl Aside {
    pub(crate) fn start() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(1)
            .thread_name("aside")
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Where tasks are spawned on it, and listeners belong to it.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // A task may not wait for its end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[tokio::test]
    async fn it_answers_while_all_others_are_busy() {
        let aside = Aside::start().unwrap();
        let (said, heard) = mpsc::channel();
        aside.handle().spawn(async move { said.send(()) });
        // The only thread of this runtime waits, and runs nothing else.
        heard.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
