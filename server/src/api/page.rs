//! Pages, counts and identifiers.

use tonic::Status;

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Where the next page begins; empty at the end.
    pub(super) next: String,
}

/// Most items that are answered to a caller who asks for no pages.
const UNPAGED: usize = 50_000;

/// Takes a page off a list that begins after the caller's page token. `size` 0 asks for everything.
///
/// # Errors
///
/// Everything is too much for one answer.
pub(super) fn take<'a, T: 'a + Copy>(
    items: impl Iterator<Item = T>,
    size: i32,
    most: usize,
    key: impl Fn(T) -> &'a str,
) -> Result<Page<T>, Status> {
    let wanted = usize::try_from(size).unwrap_or(0);
    let (limit, paged) = if wanted == 0 {
        (UNPAGED, false)
    } else {
        (wanted.min(most), true)
    };
    let mut items: Vec<T> = items.take(limit + 1).collect();
    if items.len() <= limit {
        return Ok(Page {
            items,
            next: String::new(),
        });
    }
    if !paged {
        let message = format!("there are more than {UNPAGED}; ask for pages with page_size");
        return Err(Status::resource_exhausted(message));
    }
    items.truncate(limit);
    let next = items.last().map(|last| key(*last).to_owned()).unwrap_or_default();
    Ok(Page { items, next })
}

/// A count as the wire has it.
pub(super) fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A new identifier: a random UUID (RFC 9562 §5.4).
pub(super) fn new_id() -> String {
    uuid::Builder::from_random_bytes(edge::random())
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(size: i32, most: usize, expected: (usize, &str)) {
        let items = ["a", "b", "c", "d"];
        let page = take(items.into_iter(), size, most, |item| item).unwrap();
        assert_eq!((page.items.len(), page.next.as_str()), expected);
    }

    #[test]
    fn a_page_says_where_the_next_begins() {
        check(0, 2, (4, ""));
        check(2, 10, (2, "b"));
        check(4, 10, (4, ""));
        check(9, 3, (3, "c"));
        check(-1, 2, (4, ""));
    }

    #[test]
    fn everything_has_a_limit() {
        let many = std::iter::repeat_n("x", UNPAGED + 1);
        let refused = take(many, 0, 10, |item| item).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    }

    #[test]
    fn identifiers_are_uuids() {
        let id = new_id();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'));
        assert_ne!(id, new_id());
    }
}
