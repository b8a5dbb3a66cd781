//! The arena that the processes of one program share.
//!
//! The first process that asks for it makes it and says in its environment where it is; its children find it there. So
//! a pool's workers and their parent are in one arena however they were started, and results of a worker outlive it.

use std::sync::OnceLock;

use onecopy_arena::{Arena, JoinHint, Options};

use crate::Error;

/// The environment variable by which children find their parent's arena.
pub const SESSION_VARIABLE: &str = "ONECOPY_SESSION";
/// The environment variable that sets the limit of a new arena.
const LIMIT_VARIABLE: &str = "ONECOPY_LIMIT";

/// How many members a variable names besides the process that set it.
const MOST_OTHERS: usize = 3;

static SESSION: OnceLock<&'static Arena> = OnceLock::new();

/// The session's arena; joined or made at the first call.
///
/// A session whose processes have all ended, or a variable that came from elsewhere, is no error: this process then
/// starts a session of its own.
pub fn session() -> Result<&'static Arena, Error> {
    if let Some(arena) = SESSION.get() {
        arena.rejoin()?;
        return Ok(arena);
    }
    Arena::join_or_create_once(&SESSION, &named_members(), || Ok(Options { limit: limit_setting()?, warm: None }))
}

/// Leaves the session's arena: a process that only looks shall not be a member of what it looks at. The next call of
/// [`session`] joins it again.
pub fn leave_session() -> Result<(), Error> {
    match SESSION.get() {
        Some(arena) => Ok(arena.leave()?),
        None => Ok(()),
    }
}

/// What [`SESSION_VARIABLE`] of a child has to be: this process, and before it some of those that led it here.
///
/// The others are for a child that starts when this process has gone: ended early, or replaced itself (`exec`).
pub fn session_hint() -> Result<String, Error> {
    let own = session()?.hint();
    let others = named_members().into_iter().filter(|other| other.id == own.id && other.pid != own.pid);
    let hints: Vec<_> = std::iter::once(own).chain(others.take(MOST_OTHERS)).map(|hint| hint.to_string()).collect();
    Ok(hints.join(","))
}

/// Members of the session by the variable of this process, the nearest relative first.
fn named_members() -> Vec<JoinHint> {
    let text = std::env::var(SESSION_VARIABLE).unwrap_or_default();
    text.split(',').take(1 + MOST_OTHERS).filter_map(|hint| hint.parse().ok()).collect()
}

fn limit_setting() -> Result<Option<u64>, Error> {
    let Ok(value) = std::env::var(LIMIT_VARIABLE) else { return Ok(None) };
    match parse_size(&value) {
        Some(bytes) if bytes > 0 => Ok(Some(bytes)),
        _ => {
            Err(Error::Setting { name: LIMIT_VARIABLE, value, reason: "expected a size such as 8GiB or 500MB".into() })
        }
    }
}

/// Bytes of a size with a decimal (kB, MB, GB, TB) or binary (KiB, MiB, GiB, TiB) unit.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1_048_576.0,
        "g" | "gib" => 1_073_741_824.0,
        "t" | "tib" => 1_099_511_627_776.0,
        _ => return None,
    };
    Some((number * unit) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("8GiB"), Some(8 << 30));
        assert_eq!(parse_size("1.5 MB"), Some(1_500_000));
        assert_eq!(parse_size("4096"), Some(4096));
        assert_eq!((parse_size("8 apples"), parse_size(""), parse_size("-1")), (None, None, None));
    }
}
