//! What systemd says of a unit, and whether it may be acted on.

use crate::moment::{Id, Moment};

/// What is asked for: `systemctl show --property=…`.
pub const PROPERTIES: &str = "LoadState,ActiveState,SubState,InvocationID,ActiveEnterTimestampMonotonic,Job";

/// ActiveState, with what there is no unit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Active {
    /// It runs.
    Active,
    /// It reads its configuration again.
    Reloading,
    /// It is being started, or waits to be.
    Activating,
    /// It is being stopped.
    Deactivating,
    /// It does not run, and nobody wants it to.
    Inactive,
    /// It has failed.
    Failed,
    /// There is no such unit, or it is masked.
    Missing,
}

/// A unit as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its state.
    pub active: Active,
    /// Which of its lives this is.
    pub invocation: Option<Id>,
    /// When it became active.
    pub entered: Option<Moment>,
    /// systemd has something to do with it: a start, a stop, a restart.
    pub has_job: bool,
    /// The rule's lock file is locked: a deploy.
    pub is_locked: bool,
    /// Another guard acts on it at this moment.
    pub is_taken: bool,
    /// When a guard, this or another, has last acted on it.
    pub acted: Option<Moment>,
}

/// Why nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no such unit.
    Missing,
    /// It was stopped.
    Inactive,
    /// It is being stopped.
    Stopping,
    /// It is being reloaded.
    Reloading,
    /// It is being started, stopped or restarted.
    Job,
    /// A deploy.
    Locked,
    /// Another guard is at it.
    Taken,
    /// Another guard has acted on these lines.
    Acted,
    /// The lines are of an earlier life.
    Restarted,
}

impl Why {
    /// For people: the end of "… lines, but ".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Why::Missing => "systemd knows no such unit, or it is masked",
            Why::Inactive => "the unit is stopped",
            Why::Stopping => "the unit is being stopped",
            Why::Reloading => "the unit is being reloaded",
            Why::Job => "systemd has a job for the unit already",
            Why::Locked => "the lock file is locked: a deploy",
            Why::Taken => "another guard acts on the unit",
            Why::Acted => "another guard has acted on these lines",
            Why::Restarted => "the unit has been started anew since",
        }
    }
}

impl Facts {
    /// A unit of which all is well, as the past is told.
    #[must_use]
    pub fn well(invocation: Option<Id>) -> Facts {
        Facts {
            active: Active::Active,
            invocation,
            entered: None,
            has_job: false,
            is_locked: false,
            is_taken: false,
            acted: None,
        }
    }

    /// Of what `systemctl show` prints.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(shown: &str, now: Moment) -> Result<Facts, String> {
        let value = |name: &str| {
            let mut lines = shown.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
        };
        let state = value("ActiveState").ok_or_else(|| {
            let first: String = shown.lines().next().unwrap_or_default().chars().take(200).collect();
            format!("systemctl show said no ActiveState but {first:?}")
        })?;
        let active = match (value("LoadState"), state) {
            (Some("not-found" | "masked" | "bad-setting" | "error"), "inactive") => Active::Missing,
            (_, "active") => Active::Active,
            (_, "reloading" | "refreshing") => Active::Reloading,
            (_, "activating") => Active::Activating,
            (_, "deactivating") => Active::Deactivating,
            (_, "failed") => Active::Failed,
            (_, _) => Active::Inactive,
        };
        let entered = value("ActiveEnterTimestampMonotonic").and_then(|text| text.parse().ok());
        let entered = entered.filter(|monotonic: &u64| *monotonic > 0).map(|monotonic| Moment {
            wall: now.wall.saturating_sub(now.monotonic.saturating_sub(monotonic)),
            monotonic,
            boot: now.boot,
        });
        Ok(Facts {
            active,
            invocation: value("InvocationID").and_then(|text| Id::parse(text.as_bytes())),
            entered,
            has_job: value("Job").is_some_and(|job| !job.is_empty() && job != "0"),
            is_locked: false,
            is_taken: false,
            acted: None,
        })
    }

    /// Why nothing may be done about lines of this invocation of which the newest is so old; the first reason that holds.
    /// `is_of_unit`: systemd would be asked to do it.
    #[must_use]
    pub fn hinder(&self, invocation: Option<Id>, newest: Moment, is_of_unit: bool) -> Option<Why> {
        if self.is_taken {
            return Some(Why::Taken);
        }
        if self.acted.is_some_and(|acted| acted != newest && newest.since(acted).is_zero()) {
            return Some(Why::Acted);
        }
        if self.is_locked {
            return Some(Why::Locked);
        }
        if invocation.is_some() && self.invocation.is_some() && self.invocation != invocation {
            return Some(Why::Restarted);
        }
        match self.active {
            Active::Missing if is_of_unit => Some(Why::Missing),
            Active::Inactive if is_of_unit => Some(Why::Inactive),
            Active::Deactivating => Some(Why::Stopping),
            Active::Reloading => Some(Why::Reloading),
            _ if self.has_job => Some(Why::Job),
            Active::Active | Active::Activating | Active::Failed | Active::Inactive | Active::Missing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment { wall: 1_000_000_000, monotonic: 500_000_000, boot: None };

    #[test]
    fn what_systemctl_shows_is_understood() {
        let text = "LoadState=loaded\nActiveState=active\nSubState=running\n\
            InvocationID=0123456789abcdef0123456789abcdef\nActiveEnterTimestampMonotonic=400000000\n";
        let facts = Facts::parse(text, NOW).expect("facts");
        assert_eq!(facts.active, Active::Active);
        assert_eq!(facts.entered.map(|entered| entered.wall), Some(900_000_000));
        assert!(facts.invocation.is_some() && !facts.has_job);
        let facts = Facts::parse("ActiveState=deactivating\nJob=17\nActiveEnterTimestampMonotonic=0\n", NOW);
        let facts = facts.expect("facts");
        assert!(facts.has_job && facts.entered.is_none());
        let missing = Facts::parse("LoadState=not-found\nActiveState=inactive\n", NOW).expect("facts");
        assert_eq!(missing.active, Active::Missing);
        assert!(Facts::parse("Failed to connect to bus\n", NOW).is_err());
    }

    #[test]
    fn each_reason_not_to_act_is_found() {
        let id = Id::parse(b"0123456789abcdef0123456789abcdef");
        let other = Id::parse(b"1123456789abcdef0123456789abcdef");
        let well = Facts::well(id);
        let why = |facts: Facts| facts.hinder(id, NOW, true);
        assert_eq!(why(well), None);
        assert_eq!(why(Facts { is_taken: true, ..well }), Some(Why::Taken));
        assert_eq!(why(Facts { acted: Some(Moment::on_wall(2_000_000_000)), ..well }), Some(Why::Acted));
        assert_eq!(why(Facts { acted: Some(Moment::on_wall(5)), ..well }), None);
        assert_eq!(why(Facts { is_locked: true, ..well }), Some(Why::Locked));
        assert_eq!(why(Facts { invocation: other, ..well }), Some(Why::Restarted));
        assert_eq!(why(Facts { active: Active::Deactivating, ..well }), Some(Why::Stopping));
        assert_eq!(why(Facts { active: Active::Reloading, ..well }), Some(Why::Reloading));
        assert_eq!(why(Facts { has_job: true, ..well }), Some(Why::Job));
        assert_eq!(why(Facts { active: Active::Inactive, ..well }), Some(Why::Inactive));
        assert_eq!(why(Facts { active: Active::Missing, ..well }), Some(Why::Missing));
        assert_eq!(why(Facts { active: Active::Failed, ..well }), None, "a failed unit is what a guard is for");
        assert_eq!(why(Facts { active: Active::Activating, ..well }), None);
        let inactive = Facts { active: Active::Inactive, ..well };
        assert_eq!(inactive.hinder(id, NOW, false), None, "a word can be said about a stopped unit");
    }
}
