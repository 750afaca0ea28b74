//! Between the wire's types and ours. Everything is parsed here, completely, or refused with a reason that names
//! the field; inside the server there are no half-parsed values.

mod agent;
mod authority;
mod bundle;
mod entry;
mod host;
mod id;
mod mask;
mod policy;
mod selector;
mod svid;

pub use agent::agent_to_wire;
pub use authority::{AuthorityError, authorities_from_wire};
pub use bundle::bundle_to_wire;
pub use entry::{EntryFieldError, entry_from_store, entry_from_wire, entry_to_wire};
pub use host::{
    EkFieldError, HostFieldError, endorsement_key_from_wire, enrolment_filter, host_name, host_to_wire,
    new_host_from_wire,
};
pub use id::{IdError, agent_id, id_to_wire, member_id, workload_id};
pub use mask::{ALL_ENTRY_FIELDS, mask_agent, mask_bundle, mask_entry};
pub use policy::{
    PolicyFieldError, Tallies, difference_to_wire, fall_out_to_wire, pins, policy_name, policy_names,
    policy_to_wire, standing_to_wire, unknown_to_wire, which,
};
pub use selector::{selector_match, selectors_from_wire, selectors_to_wire, trust_domain_match};
pub use svid::{jwt_to_wire, svid_to_wire};
