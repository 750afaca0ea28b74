//! The words on the wire: the SPIFFE Workload API, the SPIRE server APIs, and our own extensions.
//!
//! Everything here is made by `build.rs` from the `.proto` files of this folder, where each message and
//! field is described. Nothing is decided here; only the edges of `server` and `agent` use these types.

mod codec;

use std::sync::LazyLock;

pub use codec::Codec;
pub use prost::bytes;

use prost_reflect::DescriptorPool;

/// Descriptors of every message and service: for reflection, and for JSON as SPIRE's tools print it.
pub static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin")).as_slice();
    DescriptorPool::decode(bytes).unwrap_or_default()
});

/// Paths of the methods of all services, in order: `/package.Service/Method`. A process that only counts its calls need
/// not keep [`DESCRIPTORS`] in memory.
pub const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

macro_rules! package {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}

/// Google's common types.
pub mod google {
    /// Statuses with details.
    pub mod rpc {
        package!("google.rpc");
    }
}

/// The gRPC project's own services.
pub mod grpc {
    /// Health checking.
    pub mod health {
        /// Version 1.
        pub mod v1 {
            package!("grpc.health.v1");
        }
    }
}

/// Plastron's own APIs and formats.
pub mod plastron {
    /// Care of a server.
    pub mod admin {
        /// Version 1.
        pub mod v1 {
            package!("plastron.admin.v1");
        }
    }
    /// The agent session.
    pub mod agent {
        /// Version 1.
        pub mod v1 {
            package!("plastron.agent.v1");
        }
    }
    /// Attestation payloads.
    pub mod attest {
        /// Version 1.
        pub mod v1 {
            package!("plastron.attest.v1");
        }
    }
    /// Backup files.
    pub mod backup {
        /// Version 1.
        pub mod v1 {
            package!("plastron.backup.v1");
        }
    }
    /// Host administration.
    pub mod host {
        /// Version 1.
        pub mod v1 {
            package!("plastron.host.v1");
        }
    }
    /// Reference values.
    pub mod policy {
        /// Version 1.
        pub mod v1 {
            package!("plastron.policy.v1");
        }
    }
    /// What authorities no longer stand for.
    pub mod revocation {
        /// Version 1.
        pub mod v1 {
            package!("plastron.revocation.v1");
        }
    }
    /// Records on disk.
    pub mod store {
        /// Version 1.
        pub mod v1 {
            package!("plastron.store.v1");
        }
    }
}

/// SPIFFE's own APIs.
pub mod spiffe {
    /// The Workload API.
    pub mod workload {
        package!("_");
    }
}

/// The APIs of SPIRE.
pub mod spire {
    /// Version roots.
    pub mod api {
        /// Types shared by the services.
        pub mod types {
            package!("spire.api.types");
        }
        /// Services of the server.
        pub mod server {
            /// Agents.
            pub mod agent {
                /// Version 1.
                pub mod v1 {
                    package!("spire.api.server.agent.v1");
                }
            }
            /// Bundles.
            pub mod bundle {
                /// Version 1.
                pub mod v1 {
                    package!("spire.api.server.bundle.v1");
                }
            }
            /// Debugging.
            pub mod debug {
                /// Version 1.
                pub mod v1 {
                    package!("spire.api.server.debug.v1");
                }
            }
            /// Registration entries.
            pub mod entry {
                /// Version 1.
                pub mod v1 {
                    package!("spire.api.server.entry.v1");
                }
            }
            /// Signing authorities.
            pub mod localauthority {
                /// Version 1.
                pub mod v1 {
                    package!("spire.api.server.localauthority.v1");
                }
            }
            /// Logging.
            pub mod logger {
                /// Version 1.
                pub mod v1 {
                    package!("spire.api.server.logger.v1");
                }
            }
            /// SVIDs.
            pub mod svid {
                /// Version 1.
                pub mod v1 {
                    package!("spire.api.server.svid.v1");
                }
            }
            /// Federation relationships.
            pub mod trustdomain {
                /// Version 1.
                pub mod v1 {
                    package!("spire.api.server.trustdomain.v1");
                }
            }
        }
    }
}
