//! What a package says of itself, and what it needs.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{Package, Tree, said};

/// The text of `DEBIAN/control`.
///
/// # Errors
///
/// It can't be found out which packages the program needs.
pub(super) fn control(package: &Package, tree: &Tree, architecture: &str) -> Result<String> {
    let Package {
        name,
        summary,
        description,
        ..
    } = package;
    let (version, size) = (env!("CARGO_PKG_VERSION"), tree.size()?);
    let mut needed = libraries(&tree.path().join("usr/bin").join(name))?;
    needed.extend(package.opens.iter().map(|opened| either(opened)));
    needed.insert("systemd".into());
    let depends = needed.into_iter().collect::<Vec<_>>().join(", ");
    Ok(format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n\
         Maintainer: The Plastron authors <authors@plastron.invalid>\nInstalled-Size: {size}\n\
         Depends: {depends}\nSection: net\nPriority: optional\n\
         Description: {summary}\n {description}\n"
    ))
}

/// The packages with the libraries that `program` is linked with.
fn libraries(program: &Path) -> Result<BTreeSet<String>> {
    let sections = said(Command::new("objdump").arg("--private-headers").arg(program))?;
    let found = said(Command::new("ldd").arg(program))?;
    let names = sections
        .lines()
        .filter_map(|line| line.trim().strip_prefix("NEEDED"));
    names.map(|name| package_of(name.trim(), &found)).collect()
}

/// The package with the library `name`, which the linker `found` somewhere.
fn package_of(name: &str, found: &str) -> Result<String> {
    let path = path_of(name, found).with_context(|| format!("`{name}` is not found"))?;
    let path = std::fs::canonicalize(path)?;
    // Packages from before /usr was merged name files as they were then.
    let shown = path.display().to_string();
    let older = shown.strip_prefix("/usr").unwrap_or(&shown);
    let owner = said(Command::new("dpkg-query").arg("--search").arg(&path));
    let owner = owner.or_else(|_| said(Command::new("dpkg-query").args(["--search", older])))?;
    let owner = owner.split(':').next().unwrap_or_default().to_owned();
    let version = said(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", &owner]))?;
    Ok(relation(&owner, &version))
}

/// Of a line such as `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f…)`; the loader's has no arrow.
fn path_of<'a>(name: &str, found: &'a str) -> Option<&'a str> {
    let line = found.lines().map(str::trim).find(|line| {
        let mut words = line.split_whitespace();
        words
            .next()
            .is_some_and(|first| first == name || first.ends_with(&format!("/{name}")))
    })?;
    line.split_whitespace().find(|word| word.starts_with('/'))
}

/// The C library has to be as new as the one at hand, others keep their names as long as they fit.
fn relation(package: &str, version: &str) -> String {
    match package {
        "libc6" => {
            let upstream = version.split('-').next().unwrap_or(version);
            format!("libc6 (>= {upstream})")
        }
        _ if package.starts_with("libtss2") => either(package),
        _ => package.into(),
    }
}

/// Debian renamed libraries when times became 64 bits wide.
fn either(package: &str) -> String {
    let plain = package.strip_suffix("t64").unwrap_or(package);
    format!("{plain} | {plain}t64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_where_the_linker_finds_them() {
        let found =
            "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x2)\n\t/lib64/ld-linux.so.2 (0x3)\n";
        assert_eq!(path_of("libm.so.6", found), Some("/lib/x/libm.so.6"));
        assert_eq!(path_of("ld-linux.so.2", found), Some("/lib64/ld-linux.so.2"));
        assert_eq!(path_of("libc.so.6", found), None);
    }

    #[test]
    fn either_name_of_a_library_will_do() {
        assert_eq!(relation("libtss2-mu0", "1"), "libtss2-mu0 | libtss2-mu0t64");
        assert_eq!(
            relation("libtss2-mu-4.0.1-0t64", "1"),
            "libtss2-mu-4.0.1-0 | libtss2-mu-4.0.1-0t64"
        );
        assert_eq!(relation("libc6", "2.36-9+deb12u13"), "libc6 (>= 2.36)");
        assert_eq!(relation("libgcc-s1", "12"), "libgcc-s1");
    }
}
