//! From a seed to a case.

use std::time::Duration;

use steadfast_policy::class::Exit;
use steadfast_policy::figures::{BreakerFigures, Figures, Launch, Mode, Then, Verify};

use crate::case::{Act, Case, Choice, Millis, PoolCase, Profile, Release, Traffic, Word};
use crate::random::Random;

/// From the last fault to the end of a case that must recover.
const RECOVERY: Millis = 205_000;

/// The case of this seed; short ones last a minute or two and skip the recovery.
pub fn generate(seed: u64, short: bool) -> Case {
    let mut random = Random::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let profile = match random.below(10) {
        0 => Profile::Kills,
        1 => Profile::Poison,
        2 | 3 => Profile::Deploys,
        4 => Profile::Productive,
        5 => Profile::Stalls,
        6 => Profile::Operators,
        _ => Profile::Mixed,
    };
    let stormy = if short { 60_000 } else { 400_000 };
    let pools = match random.below(12) {
        0 if profile == Profile::Mixed => 3,
        1 | 2 if profile == Profile::Mixed => 2,
        _ => 1,
    };
    let mut case = Case {
        seed,
        profile,
        horizon: if short { 90_000 } else { stormy + RECOVERY },
        calm: (!short).then_some(stormy),
        pools: (0..pools).map(|_| pool(&mut random, profile)).collect(),
        choices: Vec::new(),
    };
    let count = random.between(0, if short { 6 } else { 10 });
    for _ in 0..count {
        let at = random.below(stormy);
        let target = random.below(pools) as u32;
        let act = act(&mut random, profile, &case.pools[target as usize]);
        case.choices.push(Choice { at, pool: target, act });
        if matches!(act, Act::Stop) && random.permille(700) {
            let at = at + random.between(10, 30_000);
            case.choices.push(Choice { at, pool: target, act: Act::Start });
        }
    }
    if random.permille(match profile {
        Profile::Mixed | Profile::Operators => 120,
        _ => 0,
    }) {
        let at = random.between(stormy / 4, stormy);
        let act = Act::Shutdown;
        case.choices.push(Choice { at, pool: 0, act });
        if random.permille(400) {
            let at = at + random.below(8_000);
            case.choices.push(Choice { at, pool: 0, act: Act::Hasten });
        }
    }
    case.choices.sort_by_key(|choice| choice.at);
    case
}

fn pool(random: &mut Random, profile: Profile) -> PoolCase {
    let (mode, launch) = match (profile, random.below(10)) {
        (Profile::Poison, n) => (Mode::Queue, if n < 8 { Launch::Exec } else { Launch::Zygote }),
        (Profile::Productive, _) | (_, 0..4) => (Mode::Direct, Launch::Exec),
        (_, 4..8) => (Mode::Queue, Launch::Exec),
        _ => (Mode::Queue, Launch::Zygote),
    };
    let size = match random.below(40) {
        0 => random.between(100, 140) as u32,
        1..10 => random.between(9, 32) as u32,
        _ => random.between(1, 8) as u32,
    };
    let dynamic = profile != Profile::Stalls && random.permille(400);
    let min = match dynamic {
        true if random.permille(200) => 0,
        true => random.between(1, u64::from(size)) as u32,
        false => size,
    };
    let seconds = |random: &mut Random, list: &[u64]| Duration::from_secs(random.pick(list));
    let verify = match (mode, random.below(4)) {
        (Mode::Queue, 0) => Verify::Each,
        (Mode::Queue, 1) => Verify::Generation,
        _ => Verify::Never,
    };
    let figures = Figures {
        mode,
        launch,
        verify,
        min,
        max: size,
        step: random.between(1, 4) as u32,
        idle: seconds(random, &[5, 20, 60]),
        ready_timeout: seconds(random, &[5, 20, 30]),
        verify_timeout: seconds(random, &[5, 10]),
        stop_timeout: seconds(random, &[1, 5, 10]),
        max_age: match profile {
            Profile::Stalls | Profile::Productive => None,
            _ => random.permille(80).then(|| seconds(random, &[30, 90])),
        },
        quarantine: random.permille(850),
        breaker: BreakerFigures {
            failures: random.pick(&[5, 10, 10, 10, 20]),
            within: seconds(random, &[30, 90, 90]),
            grace: seconds(random, &[10, 30]),
            backoff_first: Duration::from_millis(100),
            backoff_max: seconds(random, &[10, 30]),
            then: Then::Hold,
            prove: seconds(random, &[20, 60, 60]),
        },
        broken_codes: if random.permille(300) { vec![70] } else { Vec::new() },
        unavailable_codes: if random.permille(300) { vec![75] } else { Vec::new() },
    };
    PoolCase {
        release: match profile {
            Profile::Productive => productive(random),
            Profile::Mixed if random.permille(350) => release(random),
            _ => Release::Good,
        },
        boot: random.pick(&[20, 50, 200, 1_000, 2_000]),
        traffic: match profile {
            Profile::Productive => Traffic {
                every: random.pick(&[500, 1_000]),
                requests: random.between(1, 10) as u32,
                busy: random.between(20, 400),
                keys: 20,
            },
            Profile::Poison => Traffic { every: 1_000, requests: 5, busy: 100, keys: 20 },
            _ => traffic(random),
        },
        figures,
    }
}

fn traffic(random: &mut Random) -> Traffic {
    Traffic {
        every: random.pick(&[0, 1_000, 2_000, 2_000, 5_000, 20_000]),
        requests: random.between(1, 25) as u32,
        busy: random.pick(&[20, 200, 1_000, 3_000]),
        keys: random.pick(&[3, 20, 100]),
    }
}

fn exit(random: &mut Random) -> Exit {
    random.pick(&[
        Exit::Code(0),
        Exit::Code(1),
        Exit::Code(3),
        Exit::Code(70),
        Exit::Code(75),
        Exit::Code(255),
        Exit::Signal(6),
        Exit::Signal(11),
    ])
}

fn word(random: &mut Random) -> Word {
    random.pick(&[Word::Failed, Word::Broken, Word::Unavailable, Word::Done])
}

fn productive(random: &mut Random) -> Release {
    let exit = random.pick(&[Exit::Code(1), Exit::Signal(11), Exit::Code(0)]);
    match random.below(2) {
        // Never in the first job: they serve before they die.
        0 => Release::EveryNth(random.between(25, 300) as u32, exit),
        _ => Release::Recycles(random.between(10, 200) as u32),
    }
}

fn release(random: &mut Random) -> Release {
    match random.below(19) {
        0 | 1 => Release::DiesEarly(1000, exit(random)),
        2 => Release::DiesEarly(random.between(50, 900) as u32, exit(random)),
        3 => Release::Late(random.between(1_000, 40_000)),
        4 => Release::NeverReady,
        5 | 6 => Release::DiesAfter(random.pick(&[1, 300, 2_000, 12_000, 60_000]), exit(random)),
        7 | 8 => Release::EveryNth(random.pick(&[1, 2, 10, 500]), exit(random)),
        9 => Release::Recycles(random.pick(&[1, 20, 500])),
        10 => Release::Randomly(random.pick(&[2, 50, 300]), exit(random)),
        11 => Release::Hangs(random.pick(&[20, 200, 1000])),
        12 => Release::IgnoresTerm,
        13 => Release::SlowLeave(random.between(500, 12_000)),
        14 => Release::SaysAtBoot(word(random)),
        15 => Release::SaysAfter(word(random), random.pick(&[10, 2_000, 20_000])),
        16 => random.pick(&[Release::Hollow, Release::Mute]),
        17 => Release::Missing,
        _ => Release::Limited(random.between(5, 200) as u32),
    }
}

fn act(random: &mut Random, profile: Profile, pool: &PoolCase) -> Act {
    let kinds = match profile {
        Profile::Mixed => [0, 1, 2, 3, 4, 5, 6].as_slice(),
        Profile::Kills => &[2],
        Profile::Poison => &[7],
        Profile::Deploys => &[0],
        Profile::Productive => &[8],
        Profile::Stalls => &[3],
        Profile::Operators => &[5],
    };
    let some_release = |random: &mut Random| match random.permille(350) {
        true => Release::Good,
        false => release(random),
    };
    match random.pick(kinds) {
        0 => Act::Reload(match profile {
            // A worker that hangs in a direct pool, or that visitors kill one by one, is no broken deploy.
            Profile::Deploys => broken(random),
            _ => some_release(random),
        }),
        1 => Act::Files(some_release(random)),
        2 if profile == Profile::Kills => Act::Signal(random.pick(&[0, 1, 1, 2, 3]), 9),
        2 => match random.below(8) {
            0 => Act::Oom,
            1 => Act::ZygoteKilled,
            2 => Act::Stuck(random.pick(&[0, 3_000, 30_000])),
            3 => Act::HostRefuses(random.pick(&[500, 5_000, 60_000])),
            _ => Act::Signal(random.pick(&[0, 1, 1, 2, 3]), random.pick(&[9, 9, 11, 15])),
        },
        3 => {
            let length = random.pick(&[500, 3_000, 20_000, 120_000, 3_600_000]);
            match random.permille(500) {
                true => Act::Stall(length.min(120_000)),
                false => Act::Sleep(length),
            }
        }
        4 => Act::Traffic(traffic(random)),
        5 => operator(random, profile, pool),
        6 => match random.below(4) {
            0 => Act::Poison(random.between(0, 3) as u32),
            1 => Act::Children(random.pick(&[0, 1, 3]), random.pick(&[0, 500, 20_000, 120_000])),
            _ => Act::Lie(random.below(18) as u32),
        },
        7 => Act::Poison(1),
        _ => Act::Lie(0),
    }
}

/// A release that a good predecessor must survive.
fn broken(random: &mut Random) -> Release {
    loop {
        let release = release(random);
        let harmless = matches!(
            release,
            Release::Hangs(_) | Release::SaysAfter(Word::Unavailable, _) | Release::SaysAtBoot(Word::Unavailable)
        );
        if !harmless {
            return release;
        }
    }
}

fn operator(random: &mut Random, profile: Profile, pool: &PoolCase) -> Act {
    let max = pool.figures.max.max(2);
    let slot = random.between(1, u64::from(max)) as u32;
    match random.below(14) {
        0 | 1 => Act::Drain(slot),
        2 | 3 => Act::Kill(slot),
        4 => Act::Stop,
        5 => Act::Start,
        6 => Act::Restart,
        7 | 8 => {
            let top = random.between(1, u64::from(max) * 2);
            let least = u64::from(random.permille(800));
            let low = random.between(least, top);
            Act::Scale(low as u32, top as u32)
        }
        9 => Act::Reset,
        10 => Act::Trip,
        11 => Act::Clear,
        12 if profile == Profile::Mixed => Act::Remove,
        _ => Act::Reload(Release::Good),
    }
}
