//! Why evidence is refused: one variant per check, with a code that never changes.
//!
//! Numbers in parentheses are those of the check list in `SECURITY.md`; the second half of each line is the
//! attack that the check stops.

use crate::{HashAlg, wire::WireError};

/// Evidence was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Reject {
    // --- Endorsement key and its certificate ---
    /// (1) No path to a root of a vendor or of the operator: a certificate from any other CA passes for a vendor's.
    #[error("endorsement key certificate leads to no root of a vendor or of the operator")]
    EkChainUnknown,
    /// (1) A signature on the path does not verify: a forged certificate.
    #[error("a signature in the endorsement key's certificate chain does not verify")]
    EkChainSignature,
    /// (2) A certificate on the path is not valid now: a withdrawn or ancient one.
    #[error("a certificate in the endorsement key's chain is not valid now")]
    EkChainExpired,
    /// (2) An issuer is no CA, may not sign, or not so deep: an end certificate passes for a CA.
    #[error("an issuer in the endorsement key's chain is not allowed to issue")]
    EkChainNotCa,
    /// (9, 10) A CA on the path has a key that can be factored: anybody issues in its name.
    #[error("a CA in the endorsement key's certificate chain has a weak key")]
    EkChainWeak,
    /// (3) The leaf is a CA, or made for another use: a vendor's other certificate passes for that of an EK.
    #[error("certificate is not made for an endorsement key")]
    EkCertificateUsage,
    /// (4) A critical extension that we do not process: a restriction is dropped silently.
    #[error("endorsement key certificate has an unknown critical extension")]
    EkCertificateCritical,
    /// (5) Manufacturer, model or version are missing or double: attributes are smuggled in.
    #[error(
        "endorsement key certificate does not name manufacturer, model and version once each: enroll hosts without them by the hash of their EK"
    )]
    EkCertificateAttributes,
    /// (7, 8) Not a certificate, also not with a vendor's wrapper: parsers that differ see different keys.
    #[error("endorsement key certificate is malformed")]
    EkCertificateMalformed,
    /// (6) The root is another vendor's: who broke one vendor's CA vouches for all TPMs.
    #[error("endorsement key certificate is of another vendor's TPM than its root may vouch for")]
    EkManufacturer,
    /// (11) A CA on the path revoked the certificate below it: a stolen or broken CA, or a TPM known to be bad.
    #[error("a certificate in the endorsement key's chain is revoked")]
    EkRevoked,
    /// (11) No CRL of a CA on the path is in force, and one is wanted: a revocation is held back.
    #[error("no current CRL of a CA in the endorsement key's chain is at hand")]
    EkCrlStale,
    /// (9) Primes of a generator known to be broken (CVE-2017-15361): the private key can be computed.
    #[error("endorsement key is of a broken generator, and can be factored (ROCA)")]
    EkRoca,
    /// (10) Too small, of another exponent, or off the curve: a key that can be computed.
    #[error("endorsement key is weak")]
    EkWeak,
    /// (13) Key and certificate differ: somebody else's certificate is shown.
    #[error("endorsement key is not the one in its certificate")]
    EkMismatch,
    /// (14) Not of a known template: an ordinary storage key, usable as a decryption oracle.
    #[error("endorsement key is not made by a known template")]
    EkTemplate,
    /// (15) The key belongs to another host: a cloned identity.
    #[error("endorsement key belongs to another host")]
    EkOfOtherHost,
    /// (15) Another CA's certificate than the one the host is known by: a CA that takes the issuer's name.
    #[error("endorsement key certificate is not of the CA, or for the key, that the host is known by")]
    EkIssuer,
    /// (16) An advisory denies this TPM: its keys can be taken out of it.
    #[error("an advisory denies this TPM: its manufacturer, model and firmware")]
    EkAdvisory,

    // --- Platform certificate ---
    /// (61) Maker, model and version of the machine are missing or double: names are smuggled in.
    #[error("platform certificate does not name manufacturer, model and version once each")]
    PlatformCertificateAttributes,
    /// (61) A critical extension that we do not process: a restriction is dropped silently.
    #[error("platform certificate has an unknown critical extension")]
    PlatformCertificateCritical,
    /// (61) Only what changed of a machine: a part's seller says whose TPM is in it.
    #[error("platform certificate says only what changed of a machine (a delta)")]
    PlatformCertificateDelta,
    /// (61) About another TPM, or none: a TPM is swapped.
    #[error("platform certificate is not about this TPM's endorsement key")]
    PlatformCertificateHolder,
    /// (61) Not a platform certificate: parsers that differ see different machines.
    #[error("platform certificate is malformed")]
    PlatformCertificateMalformed,
    /// (61) It, or a certificate on its path, is not valid now: a withdrawn or ancient one.
    #[error("platform certificate, or one in its chain, is not valid now")]
    PlatformChainExpired,
    /// (61) Its issuer may not sign such, or one on the path is no CA: an end certificate passes for a maker's.
    #[error("an issuer in the platform certificate's chain is not allowed to issue")]
    PlatformChainNotCa,
    /// (61) A signature on its path does not verify, or is with SHA-1: a forged certificate.
    #[error("a signature in the platform certificate's chain does not verify")]
    PlatformChainSignature,
    /// (61) No path to a root that the operator named: anybody says which TPM is in the machine.
    #[error("platform certificate leads to no root of the operator")]
    PlatformChainUnknown,
    /// (61) A CA on its path has a key that can be factored: anybody issues in its name.
    #[error("a CA in the platform certificate's chain has a weak key")]
    PlatformChainWeak,

    // --- Attestation key and credential ---
    /// (15, 22) The key belongs to another host: a cloned identity.
    #[error("attestation key belongs to another host")]
    AkOfOtherHost,
    /// (9, 10) Too short, off the curve, or of a broken generator: the private key can be computed.
    #[error("attestation key is weak")]
    AkWeak,
    /// (17) Not bound to this TPM, not made in it, or not restricted: a software key signs what it likes.
    #[error("attestation key is not a restricted signing key of this TPM alone")]
    AkAttributes,
    /// (18) Policy or attributes differ from the template: the key could be duplicated.
    #[error("attestation key is not made by our template")]
    AkTemplate,
    /// (19) Its Name uses a weak hash or none: two keys with one Name.
    #[error("attestation key's Name uses a hash that is not accepted")]
    AkNameHash,
    /// (20, 21) The recovered credential differs: the key is not in the TPM of the endorsement key.
    #[error("credential was not recovered")]
    CredentialMismatch,
    /// (23) Signature scheme or hash differ from the key's: a downgrade.
    #[error("signature scheme is not that of the attestation key")]
    SignatureScheme,
    /// (24) The signature does not verify: nothing it covers is true.
    #[error("signature does not verify")]
    SignatureInvalid,
    /// (25) The certified key may leave the TPM, was not made in it, or is not for signing: a key in software.
    #[error("certified key is not a signing key of this TPM alone")]
    CertifiedAttributes,
    /// (25) The key of the request is not shown to be in the TPM, and has to be: a key in software.
    #[error("key of the SVID has to be in the TPM (`svid_key` of the agent), and nothing shows that it is")]
    CertificationMissing,
    /// (26) The certification is of another key than the request is for: another key is passed off as the TPM's.
    #[error("certification is not of the key in the request")]
    CertifiedName,

    // --- Quote ---
    /// (28) The magic is not the TPM's: a key that signs anything signed a forgery.
    #[error("statement was not generated by a TPM")]
    AttestMagic,
    /// (29) A statement of another kind: one passes for the other.
    #[error("statement is not of the expected kind")]
    AttestType,
    /// (30, 44) Signed under another hierarchy: a key that anybody may re-create elsewhere.
    #[error("statement is not signed by a primary key of the endorsement hierarchy")]
    QualifiedSigner,
    /// (31–33) Another connection, nonce, CSR or hello: replayed or relayed evidence.
    #[error("statement is not about this connection, request and hello")]
    ExtraData,
    /// (34) Another selection than asked for: PCRs that anyone may reset pass for firmware's.
    #[error("quote covers other PCRs than were asked for")]
    PcrSelection,
    /// (36) The values do not have the signed digest: invented ones decide.
    #[error("PCR values do not have the digest that was signed")]
    PcrDigest,
    /// (37) Only a SHA-1 bank: collisions can be made.
    #[error("quote covers no bank that is accepted")]
    PcrBank(HashAlg),
    /// (55) A dynamic launch, of which no log is read: a late launch passes for firmware's.
    #[error("PCR {0} was changed by a dynamic launch, of which no log is read")]
    PcrDynamicLaunch(u8),
    /// (38) A PCR of the firmware was never extended: measured boot is off, anybody can extend it.
    #[error("PCR {0} was never extended: measured boot is off")]
    PcrUninitialized(u8),
    /// (39, 40) Clock or counts went back under one key: state of the TPM was rolled back, or it was cleared.
    #[error("the TPM's clock or reset counts went back: it was cleared, or its state rolled back")]
    TpmCleared,
    /// (42) The machine slept since: what woke it may have put PCRs back as it liked.
    #[error("the TPM was suspended and resumed, which no host is expected to do")]
    TpmResumed,
    /// (43) Older firmware than before: a downgrade to one with known flaws.
    #[error("the TPM's firmware is older than it was")]
    FirmwareOlder,

    // --- Event log ---
    /// (54) The log has no digests of this bank: one of SHA-1 alone passes for SHA-256.
    #[error("event log has no digests of bank {0}")]
    LogBank(HashAlg),
    /// (45) Larger or of more parts than any real log: memory is exhausted.
    #[error("event log exceeds a limit")]
    LogLimit,
    /// (45) Not a log: parsers that differ replay different things.
    #[error("event log is malformed")]
    LogMalformed,
    /// (46) The log does not explain this PCR: events were hidden or invented.
    #[error("event log does not replay to PCR {1} of bank {0}")]
    LogMismatch(HashAlg, u8),
    /// (46) The log does not explain the quote, and no values came that would tell which PCR: events were hidden.
    #[error("event log does not replay to the quoted digest")]
    LogUnexplained,
    /// (46) There is no log at all, and no policy pins the values: anything may have booted.
    #[error("no event log was sent")]
    LogMissing,
    /// (48) An event's data does not have its digest: the text was swapped, the digest kept.
    #[error("data of event {0} does not have its digest")]
    LogEventData(u32),
    /// (52) No hand-over from firmware to a loader: applications ran before or after what the log shows.
    #[error("event log does not show that firmware called a boot option and then ended")]
    LogHandover,
    /// (53) A boot loader measured what is no text of its, or the text was taken out: another kernel or command line hides.
    #[error("event {0} is no text that the boot loader measures")]
    LogBootLoader(u32),
    /// (53) PCR 11 holds what is no section of a kernel image: a kernel, initrd or command line was swapped.
    #[error("event {0} is no section of a unified kernel image")]
    LogSections(u32),
    /// (51) Lists of keys are malformed: what one parser skips, another trusts.
    #[error("a variable of Secure Boot holds no list of keys")]
    SecureBootKeys,
    /// (50) Off, in setup or audit mode, or open to debuggers: anything is started.
    #[error("Secure Boot is not enforced")]
    SecureBootOff,
    /// (51) The level of revocations is malformed, or could be hidden: what one parser skips, another trusts.
    #[error("no SBAT level that can be relied on was measured")]
    SecureBootSbat,
    /// (50) Variables are missing, double or measured after firmware ended: Secure Boot is faked.
    #[error("variables of Secure Boot were not measured once each by firmware")]
    SecureBootVariable,
    /// (49) Separators are missing, double or of an error value: events follow the hand-over to the OS.
    #[error("separator of PCR {0} is missing, double or reports an error")]
    LogSeparator(u8),
    /// (54) An event lacks a digest of a bank: the bank's value says less than the log.
    #[error("event {0} does not have one digest for each bank")]
    LogBanks(u32),

    // --- Measurement list of the kernel ---
    /// (57) The first entry is no digest over the quoted PCRs: the list of another boot is shown.
    #[error("measurement list does not begin with the digest over this boot's PCRs")]
    ImaBootAggregate,
    /// (58) Another boot, or entries left out: bad ones are skipped over.
    #[error("measurement list does not go on where it was left")]
    ImaContinuity,
    /// (45) Larger or of more parts than any real list: memory is exhausted.
    #[error("measurement list exceeds a limit")]
    ImaLimit,
    /// (45) Not a list: parsers that differ see different files.
    #[error("measurement list is malformed")]
    ImaMalformed,
    /// (56) There is no list where one is wanted: anything may have run.
    #[error("no measurement list of the kernel was sent")]
    ImaMissing,
    /// (56) Entries extend another PCR than IMA's, or that was not quoted: a list hides what ran, or speaks for what is in
    /// a PCR of firmware's or of a policy's.
    #[error(
        "measurement list extends PCR {0}: only PCR 10 is explained by it, and only where that was quoted"
    )]
    ImaPcr(u8),
    /// (57) The fields of an entry do not have its digest: the path was swapped, the digest kept.
    #[error("fields of entry {0} of the measurement list do not have its digest")]
    ImaTemplateDigest(u32),
    /// (56) Far more entries than the quote proves: an old quote is shown with a long list.
    #[error("measurement list has too many entries that are newer than the quote")]
    ImaTrailing,
    /// (56) No beginning of the list adds up to the PCR: entries were hidden or invented.
    #[error("measurement list does not explain PCR 10: after entry {0} something is missing or was put in")]
    ImaUnexplained(u64),
    /// (57) A file changed while it was measured: something else ran than what was measured.
    #[error("entry {0} of the measurement list is a violation: the file changed while it was measured")]
    ImaViolation(u32),
    /// (37, 57) An old kernel fills SHA-1 digests up: collisions count in every bank.
    #[error("kernel extends SHA-1 digests into every bank")]
    ImaWeakHash,

    // --- Message ---
    /// (28) Not the structure that it should be: parsers that differ read different things.
    #[error("{0} is malformed")]
    Malformed(Part, #[source] WireError),
    /// (—) A message out of turn, or of the wrong form.
    #[error("message is not the expected one")]
    Unexpected,
    /// (45) More keys, certificates or bytes than any host has: memory is exhausted.
    #[error("message exceeds a limit")]
    TooLarge,
}

/// A part of the evidence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The attestation key's public area.
    AttestationKey,
    /// The public area of a certified key.
    CertifiedKey,
    /// The endorsement key's public area.
    EndorsementKey,
    /// The statement that the TPM signed.
    Statement,
    /// The signature over it.
    Signature,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AttestationKey => "attestation key",
            Self::CertifiedKey => "certified key",
            Self::EndorsementKey => "endorsement key",
            Self::Statement => "statement",
            Self::Signature => "signature",
        })
    }
}

impl Reject {
    /// The stable code: for the peer, the audit trail, and scripts.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::AkAttributes => "ak_attributes",
            Self::AkNameHash => "ak_name_hash",
            Self::AkOfOtherHost => "ak_of_other_host",
            Self::AkTemplate => "ak_template",
            Self::AkWeak => "ak_weak",
            Self::AttestMagic => "attest_magic",
            Self::AttestType => "attest_type",
            Self::CertificationMissing => "certification_missing",
            Self::CertifiedAttributes => "certified_attributes",
            Self::CertifiedName => "certified_name",
            Self::CredentialMismatch => "credential_mismatch",
            Self::EkAdvisory => "ek_advisory",
            Self::EkCertificateAttributes => "ek_certificate_attributes",
            Self::EkCertificateCritical => "ek_certificate_critical",
            Self::EkCertificateMalformed => "ek_certificate_malformed",
            Self::EkCertificateUsage => "ek_certificate_usage",
            Self::EkChainExpired => "ek_chain_expired",
            Self::EkChainNotCa => "ek_chain_not_ca",
            Self::EkChainSignature => "ek_chain_signature",
            Self::EkChainUnknown => "ek_chain_unknown",
            Self::EkChainWeak => "ek_chain_weak",
            Self::EkCrlStale => "ek_crl_stale",
            Self::EkIssuer => "ek_issuer",
            Self::EkManufacturer => "ek_manufacturer",
            Self::EkMismatch => "ek_mismatch",
            Self::EkOfOtherHost => "ek_of_other_host",
            Self::EkRevoked => "ek_revoked",
            Self::EkRoca => "ek_roca",
            Self::EkTemplate => "ek_template",
            Self::EkWeak => "ek_weak",
            Self::ExtraData => "extra_data",
            Self::FirmwareOlder => "firmware_older",
            Self::ImaBootAggregate => "ima_boot_aggregate",
            Self::ImaContinuity => "ima_continuity",
            Self::ImaLimit => "ima_limit",
            Self::ImaMalformed => "ima_malformed",
            Self::ImaMissing => "ima_missing",
            Self::ImaPcr(_) => "ima_pcr",
            Self::ImaTemplateDigest(_) => "ima_template_digest",
            Self::ImaTrailing => "ima_trailing",
            Self::ImaUnexplained(_) => "ima_unexplained",
            Self::ImaViolation(_) => "ima_violation",
            Self::ImaWeakHash => "ima_weak_hash",
            Self::LogBank(_) => "log_bank",
            Self::LogBanks(_) => "log_banks",
            Self::LogBootLoader(_) => "log_boot_loader",
            Self::LogEventData(_) => "log_event_data",
            Self::LogHandover => "log_handover",
            Self::LogLimit => "log_limit",
            Self::LogMalformed => "log_malformed",
            Self::LogMismatch(..) => "log_mismatch",
            Self::LogMissing => "log_missing",
            Self::LogSections(_) => "log_sections",
            Self::LogSeparator(_) => "log_separator",
            Self::LogUnexplained => "log_unexplained",
            Self::Malformed(..) => "malformed",
            Self::PcrBank(_) => "pcr_bank",
            Self::PcrDigest => "pcr_digest",
            Self::PcrDynamicLaunch(_) => "pcr_dynamic_launch",
            Self::PcrSelection => "pcr_selection",
            Self::PcrUninitialized(_) => "pcr_uninitialized",
            Self::PlatformCertificateAttributes => "platform_certificate_attributes",
            Self::PlatformCertificateCritical => "platform_certificate_critical",
            Self::PlatformCertificateDelta => "platform_certificate_delta",
            Self::PlatformCertificateHolder => "platform_certificate_holder",
            Self::PlatformCertificateMalformed => "platform_certificate_malformed",
            Self::PlatformChainExpired => "platform_chain_expired",
            Self::PlatformChainNotCa => "platform_chain_not_ca",
            Self::PlatformChainSignature => "platform_chain_signature",
            Self::PlatformChainUnknown => "platform_chain_unknown",
            Self::PlatformChainWeak => "platform_chain_weak",
            Self::QualifiedSigner => "qualified_signer",
            Self::SecureBootKeys => "secure_boot_keys",
            Self::SecureBootOff => "secure_boot_off",
            Self::SecureBootSbat => "secure_boot_sbat",
            Self::SecureBootVariable => "secure_boot_variable",
            Self::SignatureInvalid => "signature_invalid",
            Self::SignatureScheme => "signature_scheme",
            Self::TooLarge => "too_large",
            Self::TpmCleared => "tpm_cleared",
            Self::TpmResumed => "tpm_resumed",
            Self::Unexpected => "unexpected_message",
        }
    }

    /// The number of the check in `SECURITY.md`; the first, if several refuse alike.
    #[must_use]
    pub const fn check(self) -> Option<u8> {
        match self {
            Self::EkChainSignature | Self::EkChainUnknown => Some(1),
            Self::EkChainExpired | Self::EkChainNotCa => Some(2),
            Self::EkCertificateUsage => Some(3),
            Self::EkCertificateCritical => Some(4),
            Self::EkCertificateAttributes => Some(5),
            Self::EkManufacturer => Some(6),
            Self::EkCertificateMalformed => Some(7),
            Self::AkWeak | Self::EkChainWeak | Self::EkRoca => Some(9),
            Self::EkWeak => Some(10),
            Self::EkCrlStale | Self::EkRevoked => Some(11),
            Self::EkMismatch => Some(13),
            Self::EkTemplate => Some(14),
            Self::AkOfOtherHost | Self::EkIssuer | Self::EkOfOtherHost => Some(15),
            Self::EkAdvisory => Some(16),
            Self::AkAttributes => Some(17),
            Self::AkTemplate => Some(18),
            Self::AkNameHash => Some(19),
            Self::CredentialMismatch => Some(20),
            Self::SignatureScheme => Some(23),
            Self::SignatureInvalid => Some(24),
            Self::CertificationMissing | Self::CertifiedAttributes => Some(25),
            Self::CertifiedName => Some(26),
            Self::AttestMagic | Self::Malformed(..) => Some(28),
            Self::AttestType => Some(29),
            Self::QualifiedSigner => Some(30),
            Self::ExtraData => Some(31),
            Self::PcrSelection => Some(34),
            Self::PcrDigest => Some(36),
            Self::ImaWeakHash | Self::PcrBank(_) => Some(37),
            Self::PcrUninitialized(_) => Some(38),
            Self::TpmCleared => Some(39),
            Self::TpmResumed => Some(42),
            Self::FirmwareOlder => Some(43),
            Self::ImaLimit | Self::ImaMalformed | Self::LogLimit | Self::LogMalformed | Self::TooLarge => {
                Some(45)
            }
            Self::LogMismatch(..) | Self::LogMissing | Self::LogUnexplained => Some(46),
            Self::LogEventData(_) => Some(48),
            Self::LogSeparator(_) => Some(49),
            Self::SecureBootOff | Self::SecureBootVariable => Some(50),
            Self::SecureBootKeys | Self::SecureBootSbat => Some(51),
            Self::LogHandover => Some(52),
            Self::LogBootLoader(_) | Self::LogSections(_) => Some(53),
            Self::LogBank(_) | Self::LogBanks(_) => Some(54),
            Self::PcrDynamicLaunch(_) => Some(55),
            Self::ImaMissing | Self::ImaPcr(_) | Self::ImaTrailing | Self::ImaUnexplained(_) => Some(56),
            Self::ImaBootAggregate | Self::ImaTemplateDigest(_) | Self::ImaViolation(_) => Some(57),
            Self::ImaContinuity => Some(58),
            Self::PlatformCertificateAttributes
            | Self::PlatformCertificateCritical
            | Self::PlatformCertificateDelta
            | Self::PlatformCertificateHolder
            | Self::PlatformCertificateMalformed
            | Self::PlatformChainExpired
            | Self::PlatformChainNotCa
            | Self::PlatformChainSignature
            | Self::PlatformChainUnknown
            | Self::PlatformChainWeak => Some(61),
            Self::Unexpected => None,
        }
    }
}
