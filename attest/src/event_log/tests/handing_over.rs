//! How firmware hands over to what it starts.

use super::{booting::verify, *};

const EXIT: &str = "Exit Boot Services Invocation";
const EXITED: &str = "Exit Boot Services Returned with Success";
const FAILED: &str = "Exit Boot Services Returned with Failure";

/// What PCRs 4 and 5 say, before and after the separators.
fn handover(before: &[(u32, &str)], after: &[(u32, &str)]) -> Result<Handover, Reject> {
    let add =
        |log: Builder, (pcr, text): &(u32, &str)| log.honest(*pcr, EventKind::EFI_ACTION, text.as_bytes());
    let log = before.iter().fold(Builder::agile(SHA256), add).separators();
    Handover::of(&verify(&after.iter().fold(log, add)))
}

const CALLING: (u32, &str) = (4, "Calling EFI Application from Boot Option");
const ENDING: [(u32, &str); 2] = [(5, EXIT), (5, EXITED)];

#[test]
fn firmware_hands_over_once_and_ends() {
    let good = handover(
        &[(4, "menu"), CALLING],
        &[(4, "loader"), (4, "kernel"), (5, EXIT), (5, EXITED)],
    )
    .unwrap();
    assert_eq!((good.before.len(), good.images.len()), (1, 2));
    assert!(good.has_ended);

    let refused: [(&[_], &[_]); 8] = [
        // Nothing shows that a boot option was called.
        (&[], &ENDING),
        (&[], &[CALLING, (5, EXIT), (5, EXITED)]),
        (&[CALLING], &[(5, EXITED)]),
        (&[CALLING], &[(5, EXIT), (5, FAILED)]),
        (&[CALLING], &[(5, EXIT), (5, EXITED), (5, "more")]),
        (&[CALLING], &[(5, EXIT), (5, EXITED), (5, EXIT), (5, EXITED)]),
        (&[CALLING], &[(5, EXIT), (5, "more"), (5, EXITED)]),
        (&[CALLING], &[(5, EXIT)]),
    ];
    for (before, after) in refused {
        assert_eq!(
            handover(before, after),
            Err(Reject::LogHandover),
            "{before:?} {after:?}"
        );
    }
}

/// EDK2 told failures alone until 2024; since then it may tell once that it was asked.
#[test]
fn firmware_may_fail_to_end_before_it_does() {
    let has_ended = |texts: &[&str]| {
        let ending: Vec<_> = texts.iter().map(|text| (5, *text)).collect();
        handover(&[CALLING], &ending).map(|handover| handover.has_ended)
    };
    for good in [
        &["GPT", EXIT, EXITED][..],
        &[EXIT, FAILED, EXIT, EXITED],
        &[FAILED, EXIT, EXITED],
        &[FAILED, FAILED, EXIT, EXITED],
        &[EXIT, FAILED, EXITED],
    ] {
        assert_eq!(has_ended(good), Ok(true), "{good:?}");
    }
    for bad in [
        &[FAILED, EXITED][..],
        &[EXIT, EXIT, EXITED],
        &[EXIT, FAILED, EXIT, EXIT, EXITED],
        &[EXIT, EXITED, FAILED],
        &[FAILED],
    ] {
        assert_eq!(has_ended(bad), Err(Reject::LogHandover), "{bad:?}");
    }
}

/// Most servers never say that they call a boot option, and some not that they end: their images count all the same.
#[test]
fn firmware_need_not_say_that_it_calls_a_boot_option() {
    let silent = handover(
        &[(4, "menu")],
        &[(4, "loader"), (4, "kernel"), (5, EXIT), (5, EXITED)],
    )
    .unwrap();
    assert_eq!((silent.before.len(), silent.images.len()), (1, 2));
    assert!(silent.has_ended);
    let elsewhere = (5, "Calling EFI Application from Boot Option");
    assert!(handover(&[elsewhere], &[(4, "loader"), (5, EXIT), (5, EXITED)]).is_ok());
    for before in [&[CALLING][..], &[]] {
        let unended = handover(before, &[(4, "loader"), (5, "GPT")]).unwrap();
        assert_eq!((unended.images.len(), unended.has_ended), (1, false));
    }
}

#[test]
fn a_boot_option_that_is_named_is_no_image() {
    let booting = |text: &'static str| {
        let handover = handover(&[(4, text)], &[(4, text), (4, "loader"), (5, EXIT), (5, EXITED)]);
        handover.map(|handover| (handover.before.len(), handover.images.len()))
    };
    assert_eq!(booting("Booting to Boot001A Option"), Ok((0, 1)));
    for other in [
        "Booting to Boot1 Option",
        "Booting to BootEvil Option",
        "Booting to Boot0001",
    ] {
        assert_eq!(booting(other), Ok((1, 2)), "{other}");
    }
}
