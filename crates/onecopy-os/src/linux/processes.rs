//! Looking at other processes: who they are and which memory files they have open. Nothing here changes anything.

use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::{fs, io};

use super::memory::Machine;

/// Longest command that is shown, in characters.
const LONGEST_COMMAND: usize = 200;

impl Machine {
    /// The pids of all processes of this user that can be seen, in order.
    pub fn processes(&self) -> Vec<u32> {
        let me = rustix::process::geteuid().as_raw();
        let entries = fs::read_dir(self.path("/proc")).into_iter().flatten().flatten();
        let mut pids: Vec<u32> = entries
            .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() == me))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        pids
    }

    /// The command line of a process; what a terminal would take for a command is replaced.
    pub fn command(&self, pid: u32) -> Option<String> {
        let bytes = fs::read(self.of(pid, "cmdline")).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches('\0').chars().take(LONGEST_COMMAND);
        let shown: String = text.map(|c| if c == '\0' || c.is_control() { ' ' } else { c }).collect();
        (!shown.is_empty()).then_some(shown)
    }

    /// Descriptors of memory files that a process has open, with the names of the files.
    pub fn memory_files_of(&self, pid: u32) -> io::Result<Vec<(RawFd, String)>> {
        let entries = fs::read_dir(self.of(pid, "fd"))?;
        let file = |entry: fs::DirEntry| {
            let target = fs::read_link(entry.path()).ok()?;
            let name = target.to_str()?.strip_prefix("/memfd:")?.trim_end_matches(" (deleted)").to_owned();
            Some((entry.file_name().to_str()?.parse().ok()?, name))
        };
        Ok(entries.flatten().filter_map(file).collect())
    }

    /// Descriptors of files on disk that a process has open, with their paths; those that were removed among them.
    pub fn disk_files_of(&self, pid: u32) -> io::Result<Vec<(RawFd, PathBuf)>> {
        let entries = fs::read_dir(self.of(pid, "fd"))?;
        let file = |entry: fs::DirEntry| {
            let target = fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok()?;
            let path = target.trim_end_matches(" (deleted)");
            let on_disk = path.starts_with('/') && !path.starts_with("/memfd:");
            Some((entry.file_name().to_str()?.parse().ok()?, PathBuf::from(path))).filter(|_| on_disk)
        };
        Ok(entries.flatten().filter_map(file).collect())
    }

    fn of(&self, pid: u32, file: &str) -> PathBuf {
        self.path(format!("/proc/{pid}/{file}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::Fabricated;
    use super::*;
    use crate::MemoryFile;

    #[test]
    fn a_memory_file_is_seen_where_it_is_open() {
        let file = MemoryFile::create("onecopy-seen", 4096).unwrap();
        let machine = Machine::this();
        assert!(machine.processes().contains(&std::process::id()));
        let seen = machine.memory_files_of(std::process::id()).unwrap();
        assert!(seen.contains(&(file.number(), "onecopy-seen".into())), "{seen:?}");
        assert!(machine.memory_files_of(u32::MAX).is_err());
    }

    #[test]
    fn a_command_cannot_steer_the_terminal() {
        let files = Fabricated::new(&[("proc/7/cmdline", "python\0-c\0\x1b[2Jprint\n\0"), ("proc/8/cmdline", "")]);
        let machine = files.machine();
        assert_eq!(machine.command(7).as_deref(), Some("python -c  [2Jprint "));
        assert_eq!((machine.command(8), machine.command(9)), (None, None));
        assert_eq!(machine.processes(), [7, 8]);
    }
}
