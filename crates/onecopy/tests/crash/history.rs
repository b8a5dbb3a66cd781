//! Judges what processes say that they put into a queue and took out of it.
//!
//! The rule: every message is taken exactly once, unless the process that took it was killed while it had it; those of
//! one producer come out in the order in which it put them.

use std::collections::{BTreeMap, BTreeSet};

/// A message: its producer, and the how manieth of that producer it is.
pub(crate) type Name = (u32, u32);

/// What a process says that it does, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// It begins to put messages of its own.
    Putting { first: u32, count: u32 },
    /// So many of them, from the first on, went in.
    Put(u32),
    /// It begins to take.
    Taking { most: u32 },
    /// It has these.
    Took(Vec<Name>),
}

/// The life of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Story {
    pub(crate) producer: u32,
    pub(crate) events: Vec<Event>,
    pub(crate) killed: bool,
}

/// What became of the messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fates {
    /// Taken by a process that says so.
    pub(crate) taken: u32,
    /// Put by a process that was told so, and in the hand of one that was killed.
    pub(crate) lost: u32,
    /// Of those whose producer was killed before it was told: taken all the same.
    pub(crate) untold: u32,
}

/// The messages that a producer was told went in, and those of its last batch that it was told nothing of.
fn put_by(story: &Story) -> Result<(BTreeSet<u32>, BTreeSet<u32>), String> {
    let (mut known, mut open) = (BTreeSet::new(), None);
    for event in &story.events {
        match *event {
            Event::Putting { first, count } => open = Some((first, count)),
            Event::Put(went_in) => {
                let (first, count) = open.take().ok_or("messages went in that were not being put")?;
                if went_in > count {
                    return Err(format!("{went_in} of {count} messages went in"));
                }
                known.extend(first..first + went_in);
            }
            _ => {}
        }
    }
    if open.is_some() && !story.killed {
        return Err(format!("producer {} ended without having put its last batch", story.producer));
    }
    Ok((known, open.map(|(first, count)| first..first + count).unwrap_or_default().collect()))
}

/// What a consumer took; and how many more it may have had in its hand when it was killed.
fn taken_by(story: &Story) -> Result<(Vec<Name>, u32), String> {
    let (mut all, mut open) = (Vec::new(), None);
    for event in &story.events {
        match event {
            Event::Taking { most } => open = Some(*most),
            Event::Took(names) => {
                let most = open.take().ok_or("messages were taken that nobody asked for")?;
                if names.len() > most as usize {
                    return Err(format!("{} messages were taken, of at most {most}", names.len()));
                }
                all.extend(names);
            }
            _ => {}
        }
    }
    if open.is_some() && !story.killed {
        return Err("a consumer ended while it took".into());
    }
    Ok((all, open.unwrap_or(0)))
}

/// Checks the lives of all that used a queue, after it has been emptied, against the rule.
pub(crate) fn judge(stories: &[Story]) -> Result<Fates, String> {
    let mut takers = BTreeMap::new();
    let mut in_hand = 0;
    for (taker, story) in stories.iter().enumerate() {
        let (names, hand) = taken_by(story)?;
        in_hand += hand;
        let mut last = BTreeMap::new();
        for (producer, number) in names {
            if last.insert(producer, number).is_some_and(|before| before >= number) {
                return Err(format!("message {number} of producer {producer} came out of order"));
            }
            if takers.insert((producer, number), taker).is_some() {
                return Err(format!("message {number} of producer {producer} was taken twice"));
            }
        }
    }
    let mut fates = Fates::default();
    let mut left = takers;
    for story in stories {
        let (known, open) = put_by(story)?;
        let take = |number: &u32, left: &mut BTreeMap<Name, usize>| left.remove(&(story.producer, *number)).is_some();
        for number in &known {
            let taken = take(number, &mut left);
            *(if taken { &mut fates.taken } else { &mut fates.lost }) += 1;
        }
        // Of a batch the messages go in from the first on; a gap is one that is in somebody's hand.
        let arrived: Vec<_> = open.iter().map(|number| take(number, &mut left)).collect();
        let prefix = arrived.iter().rposition(|&taken| taken).map_or(0, |last| last + 1);
        fates.untold += arrived.iter().filter(|&&taken| taken).count() as u32;
        fates.lost += arrived[..prefix].iter().filter(|&&taken| !taken).count() as u32;
    }
    if let Some((name, _)) = left.first_key_value() {
        return Err(format!("message {} of producer {} was never put", name.1, name.0));
    }
    if fates.lost > in_hand {
        return Err(format!("{} messages are lost, of at most {in_hand} in the hands of the killed", fates.lost));
    }
    Ok(fates)
}

// --- as lines of text ---

impl Event {
    pub(crate) fn to_line(&self, actor: u32) -> String {
        match self {
            Self::Putting { first, count } => format!("{actor} putting {first} {count}\n"),
            Self::Put(count) => format!("{actor} put {count}\n"),
            Self::Taking { most } => format!("{actor} taking {most}\n"),
            Self::Took(names) => {
                let names: Vec<_> = names.iter().map(|(producer, number)| format!(" {producer}:{number}")).collect();
                format!("{actor} took{}\n", names.concat())
            }
        }
    }

    /// The actor and the event of a line; none if it says something else.
    pub(crate) fn from_line(line: &str) -> Option<(u32, Self)> {
        let mut words = line.split(' ');
        let actor = words.next()?.parse().ok()?;
        let kind = words.next()?;
        let mut number = || words.next()?.parse().ok();
        let event = match kind {
            "putting" => Self::Putting { first: number()?, count: number()? },
            "put" => Self::Put(number()?),
            "taking" => Self::Taking { most: number()? },
            "took" => {
                let name = |word: &str| {
                    let (producer, number) = word.split_once(':')?;
                    Some((producer.parse().ok()?, number.parse().ok()?))
                };
                Self::Took(words.map(name).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        Some((actor, event))
    }
}
