//! Trying again what was not answered and should have been.
//!
//! On a busy machine an answer may take long, and a queue of the kernel's that
//! is full loses packets. So what should be answered is tried anew, with more
//! patience each time. With it is tried what should not be and was not: it
//! then had as much time to be answered.

use std::time::Duration;

use anyhow::Result;

use crate::{
    expectations::Expectation,
    probe::{self, Held, Outcome, PATIENCE, Probe},
    raw::{self, Message},
    topology::Topology,
};

/// Each with twice the patience of the one before: 37 seconds in all.
pub(crate) const ROUNDS: u32 = 5;

/// Tries, and tries again until it was in vain once: who has found a real
/// difference need not wait as long for the next.
#[derive(Debug, Default)]
pub struct Insistence {
    in_vain: bool,
}

impl Insistence {
    /// What becomes of these new connections.
    ///
    /// # Errors
    ///
    /// If a namespace cannot be entered.
    pub fn try_all(
        &mut self,
        topology: &Topology,
        probes: &[Probe],
        expected: &[Expectation],
    ) -> Result<Vec<Outcome>> {
        let name = |index: usize| probes[index].to_string();
        self.until(expected, name, |which, patience| {
            let probes: Vec<Probe> = which.iter().map(|index| probes[*index]).collect();
            probe::try_within(topology, &probes, patience)
        })
    }

    /// What becomes of something new that is sent over each connection.
    pub fn exchange(&mut self, held: &mut [Held], expected: &[Expectation]) -> Vec<Outcome> {
        let names: Vec<String> = held
            .iter()
            .map(|one| format!("held {}", one.probe))
            .collect();
        let name = |index: usize| names[index].clone();
        self.until(expected, name, |which, patience| {
            Ok(Held::exchange_within(held, which, patience))
        })
        .expect("nothing above fails")
    }

    /// Which of these messages arrive.
    ///
    /// # Errors
    ///
    /// If a socket cannot be had, or sending fails.
    pub fn send_all(
        &mut self,
        topology: &Topology,
        messages: &[Message],
        expected: &[Expectation],
    ) -> Result<Vec<Outcome>> {
        let name = |index: usize| messages[index].to_string();
        self.until(expected, name, |which, patience| {
            let messages: Vec<&Message> = which.iter().map(|index| &messages[*index]).collect();
            raw::send_within(topology, &messages, patience)
        })
    }

    /// `attempt` tries those with these indices, with this patience, and
    /// returns their outcomes in the same order.
    fn until(
        &mut self,
        expected: &[Expectation],
        name: impl Fn(usize) -> String,
        mut attempt: impl FnMut(&[usize], Duration) -> Result<Vec<Outcome>>,
    ) -> Result<Vec<Outcome>> {
        let all: Vec<usize> = (0..expected.len()).collect();
        let mut outcomes = attempt(&all, PATIENCE)?;
        let missing = |outcomes: &[Outcome]| -> Vec<usize> {
            let of_all = all.iter().copied();
            of_all
                .filter(|index| expected[*index].lacks_an_answer(&outcomes[*index]))
                .collect()
        };
        for round in 1..ROUNDS {
            let lacking = missing(&outcomes);
            if lacking.is_empty() || self.in_vain {
                return Ok(outcomes);
            }
            for index in &lacking {
                println!("{}: {}, tried again", name(*index), outcomes[*index]);
            }
            let again: Vec<usize> = all
                .iter()
                .copied()
                .filter(|index| lacking.contains(index) || outcomes[*index] == Outcome::Closed)
                .collect();
            let found = attempt(&again, PATIENCE * 2_u32.pow(round))?;
            for (index, outcome) in again.into_iter().zip(found) {
                outcomes[index] = outcome;
            }
        }
        self.in_vain = !missing(&outcomes).is_empty();
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        expectations::Expectation::{Closed, Only, Open, Refused},
        topology::Host,
    };

    /// Has outcomes by round, and says what was tried in each.
    fn play(
        insistence: &mut Insistence,
        expected: &[Expectation],
        rounds: &[&[Outcome]],
    ) -> (Vec<Outcome>, Vec<Vec<usize>>) {
        let mut tried = Vec::new();
        let outcomes = insistence
            .until(
                expected,
                |index| index.to_string(),
                |which, _| {
                    let round = rounds[tried.len().min(rounds.len() - 1)];
                    tried.push(which.to_vec());
                    Ok(which.iter().map(|index| round[*index].clone()).collect())
                },
            )
            .unwrap();
        (outcomes, tried)
    }

    #[test]
    fn what_is_answered_late_is_answered() {
        let late = [Outcome::Closed, Outcome::Open];
        let (outcomes, tried) = play(
            &mut Insistence::default(),
            &[Open, Open],
            &[&late, &[Outcome::Open, Outcome::Closed]],
        );
        assert_eq!(outcomes, [Outcome::Open, Outcome::Open]);
        assert_eq!(tried, [vec![0, 1], vec![0]]);
    }

    #[test]
    fn what_should_stay_closed_gets_the_same_time() {
        let first = [Outcome::Closed, Outcome::Closed];
        let second = [Outcome::Open, Outcome::Open];
        let (outcomes, _) = play(
            &mut Insistence::default(),
            &[Open, Closed],
            &[&first, &second],
        );
        assert_eq!(outcomes, second, "the second one leaks");
    }

    #[test]
    fn only_silence_is_tried_again() {
        let pod1 = || Outcome::Only([Host::Pod1.name().to_owned()].into());
        let found = [Outcome::Open, Outcome::Refused, Outcome::Open, pod1()];
        let expected = [Closed, Open, Refused, Only(Host::Pod2)];
        let (outcomes, tried) = play(&mut Insistence::default(), &expected, &[&found]);
        assert_eq!(outcomes, found);
        assert_eq!(tried.len(), 1);
        let (_, tried) = play(&mut Insistence::default(), &[Open], &[&[pod1()]]);
        assert_eq!(tried.len() as u32, ROUNDS);
    }

    #[test]
    fn after_it_was_in_vain_nothing_is_tried_again() {
        let mut insistence = Insistence::default();
        let (outcomes, tried) = play(&mut insistence, &[Open], &[&[Outcome::Closed]]);
        assert_eq!(
            (outcomes, tried.len() as u32),
            (vec![Outcome::Closed], ROUNDS)
        );
        let (outcomes, tried) = play(&mut insistence, &[Open], &[&[Outcome::Closed]]);
        assert_eq!((outcomes, tried.len()), (vec![Outcome::Closed], 1));
    }
}
