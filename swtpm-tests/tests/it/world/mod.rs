//! The whole system, by join token: what operators type and what workloads get.

mod audit;
mod authority;
mod backup;
mod churn;
mod clock;
mod conformance;
mod crash;
mod crl;
mod disk;
mod evidence;
mod failures;
mod go;
mod join_token;
mod meetings;
mod metrics;
mod python;
mod rotation;
mod rust;
mod tpm;
mod upstream;
mod withdrawal;
mod workload_api;
