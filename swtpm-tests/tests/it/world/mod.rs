//! The whole system, by join token: what operators type and what workloads get.

mod audit;
mod authority;
mod backup;
mod bootstrap;
mod churn;
mod clock;
mod conformance;
mod crash;
mod crl;
mod disk;
mod evidence;
mod failures;
mod fleet;
mod go;
mod health;
mod http;
mod join_token;
mod key_types;
mod limits;
mod meetings;
mod metrics;
mod overload;
mod policy;
mod python;
mod resumption;
mod rotation;
mod rust;
mod server_clock;
mod supervision;
mod tpm;
mod upstream;
mod verdict;
#[cfg(target_arch = "x86_64")]
mod vm;
mod withdrawal;
mod workload_api;
