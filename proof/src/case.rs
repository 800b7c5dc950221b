//! A scene and the packets that are judged in it; how one is made up, and how
//! one that fails is made smaller.

use hostfw_agent::{
    question::{Question, State},
    resource::Resource,
    validate::validate,
};
use proptest::{
    prelude::Rng as _,
    strategy::{NewTree, Strategy, ValueTree},
    test_runner::TestRunner,
};
use serde_json::Value;

use crate::{aim::Aim, generate::Scene, random::Random};

/// A scene and packets.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Where the packets are judged.
    pub scene: Scene,
    /// The packets.
    pub questions: Vec<Question>,
}

impl Case {
    /// Makes one up.
    #[must_use]
    pub fn random(seed: u64, packets: usize) -> Self {
        let mut random = Random::new(seed);
        let scene = Scene::random(&mut random);
        let aim = Aim::new(&scene);
        let questions = (0..packets).map(|_| aim.question(&mut random)).collect();
        Self { scene, questions }
    }
}

/// Cases of so many packets.
#[derive(Clone, Copy, Debug)]
pub struct Cases {
    /// How many packets are judged in each scene.
    pub packets: usize,
}

impl Strategy for Cases {
    type Tree = Shrink;
    type Value = Case;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        // All that a case is made of follows from this one number.
        let seed = runner.rng().next_u64();
        Ok(Shrink::new(Case::random(seed, self.packets)))
    }
}

/// Makes a case smaller as long as it fails: packets, objects and fields are
/// left out, one after another, until none can be.
#[derive(Debug)]
pub struct Shrink {
    /// The smallest that is known to fail.
    best: Case,
    current: Case,
    /// What can be left out of `best`, biggest first.
    cuts: Vec<Cut>,
    /// The next to try.
    next: usize,
    /// Something was left out since the first of the cuts was tried.
    progress: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Cut {
    /// Only so many packets from there on are kept.
    Keep {
        from: usize,
        count: usize,
    },
    Translation,
    State,
    Object(usize),
    /// A field, or an item of a list, of an object.
    Part {
        object: usize,
        path: Vec<Step>,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Item(usize),
}

impl Shrink {
    fn new(case: Case) -> Self {
        Self {
            best: case.clone(),
            current: case,
            cuts: Vec::new(),
            next: 0,
            progress: false,
        }
    }

    /// Makes the next smaller case the current one.
    fn propose(&mut self) -> bool {
        loop {
            let Some(cut) = self.cuts.get(self.next) else {
                if !std::mem::take(&mut self.progress) {
                    self.current = self.best.clone();
                    return false;
                }
                self.next = 0;
                continue;
            };
            if let Some(smaller) = cut.apply(&self.best) {
                self.current = smaller;
                return true;
            }
            self.next += 1;
        }
    }
}

impl ValueTree for Shrink {
    type Value = Case;

    fn current(&self) -> Case {
        self.current.clone()
    }

    /// The current case fails: goes on from it.
    fn simplify(&mut self) -> bool {
        self.progress = !self.cuts.is_empty();
        self.best = self.current.clone();
        self.cuts = cuts(&self.best);
        if !self.progress {
            self.next = 0;
        }
        self.propose()
    }

    /// The current case does not fail: tries another.
    fn complicate(&mut self) -> bool {
        self.next += 1;
        self.propose()
    }
}

fn cuts(case: &Case) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let packets = case.questions.len();
    let mut count = packets / 2;
    while count > 0 {
        cuts.extend((0..packets).step_by(count).map(|from| Cut::Keep {
            from,
            count: count.min(packets - from),
        }));
        count /= 2;
    }
    cuts.extend((0..case.scene.resources.len()).map(Cut::Object));
    cuts.extend([Cut::Translation, Cut::State]);
    for (object, resource) in case.scene.resources.iter().enumerate() {
        let value = resource.to_value();
        for field in ["spec", "metadata"] {
            let mut path = vec![Step::Field(field.to_owned())];
            parts(&value[field], &mut path, &mut |path| {
                cuts.push(Cut::Part {
                    object,
                    path: path.to_vec(),
                });
            });
        }
    }
    cuts
}

/// Everything inside of a value, from the outside in.
fn parts(value: &Value, path: &mut Vec<Step>, found: &mut dyn FnMut(&[Step])) {
    let inner: Vec<(Step, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (Step::Field(key.clone()), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| (Step::Item(index), item))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    for (step, value) in inner {
        path.push(step);
        found(path);
        parts(value, path, found);
        path.pop();
    }
}

impl Cut {
    /// The case without it; `None` if it is not there, or nothing legal is
    /// left.
    fn apply(&self, case: &Case) -> Option<Case> {
        let mut smaller = case.clone();
        match self {
            Self::Keep { from, count } => {
                smaller.questions = case.questions.get(*from..*from + *count)?.to_vec();
            }
            Self::Translation => {
                for question in &mut smaller.questions {
                    question.translated = None;
                }
            }
            Self::State => {
                for question in &mut smaller.questions {
                    question.state = State::New;
                }
            }
            Self::Object(index) => {
                if *index >= smaller.scene.resources.len() {
                    return None;
                }
                smaller.scene.resources.remove(*index);
            }
            Self::Part { object, path } => {
                let resource = smaller.scene.resources.get_mut(*object)?;
                let mut value = resource.to_value();
                remove(&mut value, path)?;
                let cut = Resource::from_value(&value).ok()?;
                validate(&cut).ok()?;
                *resource = cut;
            }
        }
        (smaller != *case).then_some(smaller)
    }
}

fn remove(value: &mut Value, path: &[Step]) -> Option<()> {
    let (last, parents) = path.split_last()?;
    let mut at = value;
    for step in parents {
        at = match step {
            Step::Field(key) => at.get_mut(key)?,
            Step::Item(index) => at.get_mut(index)?,
        };
    }
    match last {
        Step::Field(key) => {
            at.as_object_mut()?.remove(key)?;
        }
        Step::Item(index) => {
            let items = at.as_array_mut()?;
            (*index < items.len()).then(|| items.remove(*index))?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shrinks a case that fails as the function says.
    fn shrink(case: Case, fails: impl Fn(&Case) -> bool) -> Case {
        let mut tree = Shrink::new(case);
        assert!(fails(&tree.current()));
        let mut more = tree.simplify();
        while more {
            more = if fails(&tree.current()) {
                tree.simplify()
            } else {
                tree.complicate()
            };
        }
        tree.current()
    }

    #[test]
    fn the_same_seed_makes_the_same_case() {
        assert_eq!(Case::random(7, 20), Case::random(7, 20));
        assert_ne!(Case::random(7, 20), Case::random(8, 20));
    }

    #[test]
    fn what_is_left_of_a_failing_case_is_what_makes_it_fail() {
        let is_deny = |resource: &Resource| {
            let Resource::GlobalNetworkPolicy(policy) = resource else {
                return false;
            };
            let mut rules = policy.spec.ingress.iter();
            rules.any(|rule| rule.action == hostfw_agent::resource::Action::Deny)
        };
        let fails = |case: &Case| {
            case.scene.resources.iter().any(is_deny)
                && case.questions.iter().any(|question| question.protocol == 6)
        };
        let case = (0..)
            .map(|seed| Case::random(seed, 30))
            .find(|case| fails(case))
            .unwrap();
        let small = shrink(case, fails);
        assert_eq!(small.questions.len(), 1);
        let [Resource::GlobalNetworkPolicy(policy)] = &small.scene.resources[..] else {
            panic!("{:#?}", small.scene.resources);
        };
        assert_eq!(policy.spec.ingress.len(), 1);
        assert!(policy.spec.egress.is_empty());
        assert_eq!(policy.spec.selector, None);
        assert!(policy.spec.ingress[0].source.is_empty());
    }

    #[test]
    fn what_is_made_up_is_legal() {
        let mut faults = Vec::new();
        let mut objects = 0;
        for seed in 0..400 {
            for resource in Case::random(seed, 0).scene.resources {
                objects += 1;
                if let Err(error) = validate(&resource) {
                    faults.push(format!("seed {seed}: {}: {error:?}", resource.object_ref()));
                }
            }
        }
        assert!(
            faults.len() * 1000 <= objects,
            "{} of {objects} refused:\n{}",
            faults.len(),
            faults.join("\n")
        );
    }
}
