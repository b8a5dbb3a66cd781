//! Counters: whoever adds says so before and after. What is there is the sum of what was added, and what a killed process
//! was adding, or not.

use std::collections::{BTreeMap, BTreeSet};

use onecopy::{Arena, BlockId, Counter, SharedObject};

use crate::contents::Choices;
use crate::process::{Log, Worker};
use crate::subjects::{Scene, Subject};

pub(crate) const COUNTER: Subject =
    Subject { name: "counter", begin: Desk::begin, work, modules: &["onecopy::counter"] };

/// The actor that stays.
const SURVIVOR: u32 = 0;

/// What an actor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// Adds a number.
    Add(i64),
    /// Draws the next ticket.
    Draw,
    /// Raises the highest number.
    Raise(i64),
    /// Puts a number of its own in the place of another's.
    Pass(i64),
}

/// What each has done, with the answer, and what it was about to do.
#[derive(Debug, Default)]
struct Account {
    done: Vec<(Act, i64)>,
    open: BTreeMap<u32, Act>,
}

impl Account {
    fn begin(&mut self, actor: u32, act: Act) {
        self.open.insert(actor, act);
    }

    fn end(&mut self, actor: u32, answer: i64) {
        let act = self.open.remove(&actor).expect("ended what was not begun");
        self.done.push((act, answer));
    }

    fn learn(&mut self, log: &Log) {
        for line in &log.lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| words[i].parse::<i64>().unwrap();
            match words[0] {
                "add" => self.begin(number(1) as u32, Act::Add(number(2))),
                "draw" => self.begin(number(1) as u32, Act::Draw),
                "raise" => self.begin(number(1) as u32, Act::Raise(number(2))),
                "pass" => self.begin(number(1) as u32, Act::Pass(number(2))),
                "done" => self.end(number(1) as u32, number(2)),
                _ => {}
            }
        }
    }

    fn answers<T>(&self, pick: impl Fn(&Act, i64) -> Option<T>) -> Vec<T> {
        self.done.iter().filter_map(|(act, answer)| pick(act, *answer)).collect()
    }

    fn pending<T>(&self, pick: impl Fn(&Act) -> Option<T>) -> Vec<T> {
        self.open.values().filter_map(pick).collect()
    }
}

struct Desk {
    /// A sum, the next ticket, the highest, and who was there last.
    counters: [Counter; 4],
    account: Account,
    round: i64,
}

/// Does one of each; `say` gets a line before and after.
fn serve(counters: &[Counter; 4], actor: u32, round: i64, say: &mut dyn FnMut(&str)) {
    let [sum, tickets, highest, last] = counters;
    let name = i64::from(actor) << 32 | round;
    let mut done = |begin: String, work: &mut dyn FnMut() -> i64| {
        say(&begin);
        let answer = work();
        say(&format!("done {actor} {answer}\n"));
    };
    done(format!("add {actor} {round}\n"), &mut || sum.add(round).unwrap());
    done(format!("add {actor} {}\n", -2 * round), &mut || sum.sub(2 * round).unwrap());
    done(format!("draw {actor}\n"), &mut || {
        let mut next = tickets.get();
        while let Err(now) = tickets.compare_exchange(next, next + 1) {
            next = now;
        }
        next
    });
    done(format!("raise {actor} {name}\n"), &mut || highest.fetch_max(name));
    done(format!("pass {actor} {name}\n"), &mut || last.exchange(name));
}

impl Desk {
    fn begin(arena: &'static Arena, _: &mut Choices) -> Box<dyn Scene> {
        let counters = [(); 4].map(|()| Counter::new(arena, 0).unwrap());
        Box::new(Self { counters, account: Account::default(), round: 0 })
    }
}

impl Scene for Desk {
    fn blocks(&self) -> Vec<BlockId> {
        self.counters.iter().map(|counter| counter.part().block().id()).collect()
    }

    fn go_on(&mut self) {
        self.round += 1;
        let mut log = Log { lines: Vec::new(), killed: Vec::new() };
        serve(&self.counters, SURVIVOR, self.round, &mut |line| log.lines.push(line.trim_end().to_owned()));
        self.account.learn(&log);
    }

    fn settle(mut self: Box<Self>, logs: &[Log]) {
        self.go_on();
        for log in logs {
            self.account.learn(log);
        }
        let [sum, tickets, highest, last] = self.counters.each_ref().map(Counter::get);
        let account = &self.account;
        // What is in the books, with any of what the killed were doing.
        let added: i64 = account.answers(|act, _| if let Act::Add(n) = act { Some(*n) } else { None }).iter().sum();
        let open = account.pending(|act| if let Act::Add(n) = act { Some(*n) } else { None });
        let sums = open.iter().fold(BTreeSet::from([added]), |sums, n| sums.iter().flat_map(|s| [*s, s + n]).collect());
        assert!(sums.contains(&sum), "{sum} is none of {sums:?}");
        let drawn = account.answers(|act, ticket| (*act == Act::Draw).then_some(ticket));
        let open = account.pending(|act| (*act == Act::Draw).then_some(())).len();
        let distinct: BTreeSet<_> = drawn.iter().collect();
        assert_eq!(distinct.len(), drawn.len(), "a ticket was drawn twice: {drawn:?}");
        assert!((drawn.len()..=drawn.len() + open).contains(&(tickets as usize)), "{tickets} tickets of {drawn:?}");
        let raised = account.answers(|act, _| if let Act::Raise(n) = act { Some(*n) } else { None });
        let open = account.pending(|act| if let Act::Raise(n) = act { Some(*n) } else { None });
        let most = raised.iter().max().copied().unwrap();
        assert!(
            highest == most || highest > most && open.contains(&highest),
            "{highest} is not {most}, nor of {open:?}"
        );
        // Each name is met once, by the next, but for those that the killed met.
        let mut passed = account.answers(|act, _| if let Act::Pass(n) = act { Some(*n) } else { None });
        let open = account.pending(|act| if let Act::Pass(n) = act { Some(*n) } else { None });
        let mut met = account.answers(|act, before| if let Act::Pass(_) = act { Some(before) } else { None });
        met.push(last);
        let distinct: BTreeSet<_> = met.iter().copied().collect();
        assert_eq!(distinct.len(), met.len(), "a name was met twice: {met:?}");
        passed.push(0);
        let unmet = passed.iter().filter(|name| !distinct.contains(name)).count();
        assert!(unmet <= open.len(), "{unmet} names were met by nobody, {open:?} was killed");
    }
}

fn work(worker: &mut Worker) {
    let counters = [0, 1, 2, 3].map(|which| worker.object::<Counter>(which));
    for _ in 0..5 {
        worker.put += 1;
        serve(&counters, worker.actor, i64::from(worker.put), &mut Worker::say);
    }
    // What others would notice.
    let own = Counter::new(worker.arena, i64::MAX - 3).unwrap();
    assert!(own.add(2).is_ok() && own.add(2).is_err());
    own.set(12);
    assert_eq!((own.fetch_and(6), own.fetch_or(1), own.fetch_xor(7), own.fetch_min(1), own.get()), (12, 4, 5, 2, 1));
    let place =
        ["counter.added", "counter.compared", "counter.folded", "counter.exchanged"][worker.choices.below(4) as usize];
    worker.let_a_child_die(Some(place), |child| serve(&counters, child.actor, 1, &mut Worker::say));
    worker.put += 1;
    serve(&counters, worker.actor, i64::from(worker.put), &mut Worker::say);
}
