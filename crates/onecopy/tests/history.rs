//! The judge of what went through a queue, judged itself: by histories that are right and by such that are wrong, and by
//! threads at a queue that is right.

#[path = "crash/history.rs"]
mod history;

use history::{Event, Fates, Name, Story, judge};
use onecopy::{Arena, Batch, Error, Options, Patience, Queue, QueueError, ValueKind};

fn producer(producer: u32, batches: &[(u32, u32, Option<u32>)], killed: bool) -> Story {
    let mut events = Vec::new();
    for &(first, count, went_in) in batches {
        events.push(Event::Putting { first, count });
        events.extend(went_in.map(Event::Put));
    }
    Story { producer, events, killed }
}

fn consumer(taken: &[&[Name]], in_hand: Option<u32>) -> Story {
    let mut events = Vec::new();
    for names in taken {
        events.extend([Event::Taking { most: 3 }, Event::Took(names.to_vec())]);
    }
    events.extend(in_hand.map(|most| Event::Taking { most }));
    Story { producer: 99, events, killed: in_hand.is_some() }
}

#[test]
fn right_histories_pass() {
    let two = producer(1, &[(0, 2, Some(2))], false);
    let fates = |stories: &[Story]| judge(stories).unwrap();
    let all = fates(&[two.clone(), consumer(&[&[(1, 0)], &[(1, 1)]], None)]);
    assert_eq!(all, Fates { taken: 2, ..Fates::default() });
    let shared = fates(&[two.clone(), consumer(&[&[(1, 1)]], None), consumer(&[&[(1, 0)]], None)]);
    assert_eq!(shared.taken, 2);
    let lost = fates(&[two, consumer(&[&[(1, 1)]], None), consumer(&[], Some(1))]);
    assert_eq!((lost.taken, lost.lost), (1, 1));
    let untold = fates(&[producer(1, &[(0, 3, None)], true), consumer(&[&[(1, 0), (1, 1)]], None)]);
    assert_eq!(untold, Fates { untold: 2, ..Fates::default() });
    let part = fates(&[producer(1, &[(0, 3, Some(1)), (1, 3, Some(0))], false), consumer(&[&[(1, 0)]], None)]);
    assert_eq!(part.taken, 1);
}

#[test]
fn wrong_histories_are_found() {
    let two = || producer(1, &[(0, 2, Some(2))], false);
    let taker = |names: &[&[Name]]| consumer(names, None);
    let wrong: [(&str, Vec<Story>); 9] = [
        ("lost", vec![two(), taker(&[&[(1, 0)]])]),
        ("lost", vec![two(), taker(&[]), consumer(&[], Some(1))]),
        ("twice", vec![two(), taker(&[&[(1, 0)], &[(1, 1)]]), taker(&[&[(1, 1)]])]),
        ("order", vec![two(), taker(&[&[(1, 1)], &[(1, 0)]])]),
        ("order", vec![two(), taker(&[&[(1, 0), (1, 0), (1, 1)]])]),
        ("never put", vec![two(), taker(&[&[(1, 0), (1, 1), (1, 2)]])]),
        ("never put", vec![two(), taker(&[&[(1, 0), (1, 1), (2, 0)]])]),
        // In a batch whose producer was killed: the first has not come, and nobody was killed who might have had it.
        ("lost", vec![producer(1, &[(0, 3, None)], true), taker(&[&[(1, 1)]])]),
        ("without having put", vec![producer(1, &[(0, 3, None)], false)]),
    ];
    for (what, stories) in wrong {
        let found = judge(&stories).expect_err(what);
        assert!(found.contains(what), "{found}");
    }
}

#[test]
fn events_survive_their_text_form() {
    for event in [
        Event::Putting { first: 7, count: 2 },
        Event::Put(0),
        Event::Taking { most: 9 },
        Event::Took(vec![]),
        Event::Took(vec![(1, 2), (3, 4)]),
    ] {
        assert_eq!(Event::from_line(event.to_line(5).trim_end()), Some((5, event)));
    }
    assert_eq!(Event::from_line("5 tookk"), None);
}

fn put_all(queue: &Queue, me: u32, messages: u32) -> Story {
    let (mut events, mut batch) = (Vec::new(), Batch::new());
    let mut next = 0;
    while next < messages {
        let count = (1 + next % 5).min(messages - next);
        batch.clear();
        for number in next..next + count {
            let bytes = u64::from(me) << 32 | u64::from(number);
            queue.push(&mut batch, ValueKind::Bytes, &bytes.to_le_bytes()).unwrap();
        }
        events.push(Event::Putting { first: next, count });
        events.push(Event::Put(queue.put_batch(&batch, &Patience::FOREVER).unwrap()));
        next += count;
    }
    Story { producer: me, events, killed: false }
}

fn take_all(queue: &Queue) -> Story {
    let (mut events, mut batch) = (Vec::new(), Batch::new());
    loop {
        batch.clear();
        events.push(Event::Taking { most: 3 });
        match queue.take_batch(3, &mut batch, &Patience::FOREVER) {
            Ok(_) => {}
            Err(Error::Queue(QueueError::Closed)) => {
                events.push(Event::Took(vec![]));
                return Story { producer: 99, events, killed: false };
            }
            Err(error) => panic!("{error}"),
        }
        let name = |message: onecopy::Message<'_>| {
            let word = u64::from_le_bytes(message.bytes.try_into().unwrap());
            ((word >> 32) as u32, word as u32)
        };
        events.push(Event::Took(batch.messages().map(name).collect()));
    }
}

#[test]
fn threads_at_a_queue_keep_the_rule() {
    const EACH: u32 = 5_000;
    let arena = Arena::create(Options { limit: Some(32 << 20), warm: None }).unwrap();
    for limit in [Some(7), None] {
        let queue = Queue::new(arena, limit).unwrap();
        let stories = std::thread::scope(|scope| {
            let takers = [(); 2].map(|()| scope.spawn(|| take_all(&queue)));
            let putters = [1, 2, 3].map(|me| {
                let queue = &queue;
                scope.spawn(move || put_all(queue, me, EACH))
            });
            let mut stories: Vec<_> = putters.into_iter().map(|putter| putter.join().unwrap()).collect();
            queue.close();
            stories.extend(takers.into_iter().map(|taker| taker.join().unwrap()));
            stories
        });
        assert_eq!(judge(&stories), Ok(Fates { taken: 3 * EACH, ..Fates::default() }));
    }
}
