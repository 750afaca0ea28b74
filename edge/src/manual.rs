//! What a command line says of itself: man pages, and completions for shells.

use std::{fs, io, path::Path};

use clap::Command;
pub use clap_complete::Shell;
use clap_mangen::Man;

/// What completes the words of `command` in `shell`.
#[must_use]
pub fn completions(mut command: Command, shell: Shell) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

/// Writes a man page for `command`, and one for each command below it, into `folder`; dated by nothing, so that the
/// same program has the same pages.
///
/// # Errors
///
/// The folder can't be written to.
pub fn man_pages(command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_pages(command, folder)
}

fn write_pages(command: Command, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(below.clone(), folder)?;
    }
    // `plastron-server-entry-create`, as the pages of git are called.
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let path = folder.join(format!("{name}.8"));
    let mut page = Vec::new();
    let man = Man::new(command).title(name).section("8").source("Plastron");
    man.render(&mut page)?;
    fs::write(path, page)
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn command() -> Command {
        let create = Command::new("create").arg(Arg::new("data").long("data").help("File."));
        let entry = Command::new("entry").about("Entries.").subcommand(create);
        let hidden = Command::new("man-pages").hide(true);
        Command::new("plastron").subcommand(entry).subcommand(hidden)
    }

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        man_pages(command(), folder.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["plastron-entry-create.8", "plastron-entry.8", "plastron.8"]
        );
        let page = fs::read_to_string(folder.path().join("plastron-entry-create.8")).unwrap();
        assert!(
            page.contains(".TH plastron\\-entry\\-create 8") || page.contains(".TH plastron-entry-create 8"),
            "{page}"
        );
        assert!(page.contains("File."), "{page}");
    }

    #[test]
    fn shells_know_the_options() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let script = String::from_utf8(completions(command(), shell)).unwrap();
            assert!(script.contains("data"), "{shell}");
        }
    }
}
