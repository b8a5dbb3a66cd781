//! Who a process is.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

use crate::OsError;

/// The pid of this process, asked anew each time, as a fork changes it.
pub fn current_pid() -> u32 {
    std::process::id()
}

/// Start of a process in clock ticks since boot; with the pid it names a process for good. None for one that has ended,
/// also if nobody has waited for it yet.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command stands in parentheses and may itself hold parentheses and spaces: count fields behind the last one.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    fields.nth(18)?.parse().ok().filter(|_| !ended)
}

/// Whether a process has a file mapped, named by device and inode; also where that cannot be seen.
pub fn has_mapped(pid: u32, (device, inode): (u64, u64)) -> bool {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { return true };
    let device = format!("{:02x}:{:02x}", rustix::fs::major(device), rustix::fs::minor(device));
    maps.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(3);
        fields.next() == Some(&device) && fields.next().is_some_and(|text| text.parse() == Ok(inode))
    })
}

/// Names a process of this machine for good. Its text form is part of file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessName {
    /// Its pid, as the processes of its pid namespace see it.
    pub pid: u32,
    start: u64,
    namespace: u64,
}

impl ProcessName {
    /// Of this process.
    pub fn own() -> Self {
        let pid = current_pid();
        Self { pid, start: start_time(pid).unwrap_or(0), namespace: own_namespace() }
    }

    /// Whether it has ended, as far as can be told: that of a process in another pid namespace cannot.
    pub fn has_ended(self) -> bool {
        if self.namespace != own_namespace() {
            return false;
        }
        start_time(self.pid) != Some(self.start)
    }
}

fn own_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.pid, self.start, self.namespace)
    }
}

impl FromStr for ProcessName {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().unwrap_or_default();
        Ok(Self { pid: part().parse()?, start: part().parse()?, namespace: part().parse()? })
    }
}

/// Eight random bytes from the kernel.
pub fn random_u64() -> Result<u64, OsError> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer is valid for eight bytes; requests of up to 256 bytes are never cut short.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if n == 8 { Ok(u64::from_ne_bytes(bytes)) } else { Err(OsError::last("ask the kernel for random bytes")) }
}

/// Ends this process at once, as `kill -9` does.
#[cfg(feature = "crash-points")]
pub(crate) fn kill_self() -> ! {
    use rustix::process::{Signal, getpid, kill_process};
    loop {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_seen() {
        let file = crate::MemoryFile::create("mapped", 4096).unwrap();
        assert!(!has_mapped(current_pid(), file.identity()));
        let _mapping = crate::Mapping::of(&file, crate::Protection::Read).unwrap();
        assert!(has_mapped(current_pid(), file.identity()));
    }

    #[test]
    fn this_process_is_known() {
        assert!(start_time(current_pid()).is_some_and(|ticks| ticks > 0));
        assert_ne!(random_u64().unwrap(), random_u64().unwrap());
        let own = ProcessName::own();
        assert!(!own.has_ended());
        assert_eq!(own.to_string().parse::<ProcessName>().unwrap(), own);
        assert!("1-2".parse::<ProcessName>().is_err());
    }

    #[test]
    fn a_process_has_ended_when_its_pid_is_free_or_anothers() {
        let own = ProcessName::own();
        assert!(ProcessName { start: own.start + 1, ..own }.has_ended());
        assert!(ProcessName { pid: u32::MAX, ..own }.has_ended());
        assert!(!ProcessName { pid: u32::MAX, namespace: own.namespace + 1, ..own }.has_ended(), "cannot be told");
        // It goes on until its input ends, which is when it is waited for.
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let named = ProcessName { pid, start: start_time(pid).unwrap(), ..own };
        assert!(!named.has_ended());
        child.wait().unwrap();
        assert!(named.has_ended());
    }
}
