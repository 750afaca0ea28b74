//! The whole system, by join token: what operators type and what workloads get.

mod audit;
mod authority;
mod backup;
mod clock;
mod conformance;
mod crash;
mod disk;
mod evidence;
mod failures;
mod go;
mod join_token;
mod metrics;
mod python;
mod rotation;
mod rust;
mod tpm;
mod verdict;
mod withdrawal;
mod workload_api;
