//! Death at random times: of one worker, and of the whole group.

use std::time::Duration;

use crate::survivor::{Row, Survivor};

const WORKERS: u32 = 3;

/// Kills one worker of several, whatever it is doing; the others go on.
pub(crate) fn kill_single(survivor: &mut Survivor, rounds: u64) -> Row {
    survivor.start_traffic(WORKERS);
    for _ in 0..rounds {
        live_a_while(survivor);
        let i = survivor.choices.below(u64::from(WORKERS)) as usize;
        let mut victim = survivor.traffic().swap_remove(i);
        victim.kill();
        let (_, code) = victim.end();
        assert_eq!(code, None, "a worker ended before it was killed");
        survivor.look(None);
        survivor.start_traffic(1);
    }
    survivor.row(&format!("SIGKILL of one of {WORKERS} at random times"), rounds, rounds)
}

/// Kills all workers with the children that they have at the moment.
pub(crate) fn kill_groups(survivor: &mut Survivor, rounds: u64) -> Row {
    survivor.end_traffic();
    for _ in 0..rounds {
        survivor.start_traffic(WORKERS);
        live_a_while(survivor);
        let victims = std::mem::take(survivor.traffic());
        for victim in &victims {
            // SAFETY: the group is one that this test made, and its leader has not been waited for.
            assert_eq!(unsafe { libc::kill(-victim.pid(), libc::SIGKILL) }, 0);
        }
        for victim in victims {
            assert_eq!(victim.end().1, None, "a worker ended before it was killed");
        }
        survivor.look(None);
    }
    survivor.row(&format!("SIGKILL of {WORKERS} groups at random times"), rounds, rounds * u64::from(WORKERS))
}

/// Not a synchronisation: the moment of death is what shall vary.
fn live_a_while(survivor: &mut Survivor) {
    std::thread::sleep(Duration::from_micros(survivor.choices.below(12_000)));
}
