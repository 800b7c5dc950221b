//! Failed tests, run once more: was it the machine, or what is tested?

use anyhow::Result;

use super::libtest::{Outcome, Report};

/// If more than this fail, it is not chance.
const MOST: usize = 3;

/// Runs each failed test of the report once more, by itself. One that then
/// passes counts as passed, and as flaky; what it said at first is printed.
/// If a binary died, or many tests failed, nothing is run again.
///
/// # Errors
///
/// If a test cannot be run.
pub(crate) fn run_again(
    report: &mut Report,
    mut alone: impl FnMut(&str) -> Result<Report>,
) -> Result<()> {
    let failed: Vec<String> = report.failed().map(str::to_owned).collect();
    if !report.broken.is_empty() || failed.len() > MOST {
        return Ok(());
    }
    for key in failed {
        let name = Report::name(&key);
        println!("    running {name} once more, alone");
        let second = alone(name)?;
        let count = second.count();
        if count.failed > 0 || count.passed == 0 {
            continue;
        }
        let said = report.said.remove(&key).unwrap_or_default();
        println!("flaky: {name} failed once, then passed alone:\n{said}");
        report.flaky.push(name.to_owned());
        report.tests.insert(key, Outcome::Passed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tests: &[(&str, Outcome)]) -> Report {
        Report {
            tests: tests
                .iter()
                .map(|(name, outcome)| ((*name).to_owned(), outcome.clone()))
                .collect(),
            ..Report::default()
        }
    }

    #[test]
    fn what_passes_alone_is_passed_and_flaky() {
        use Outcome::{Failed, Passed};
        let mut first = report(&[("a", Passed), ("b", Failed), ("c#2", Failed)]);
        first.said.insert("b".to_owned(), "why".to_owned());
        let mut asked = Vec::new();
        run_again(&mut first, |name| {
            asked.push(name.to_owned());
            Ok(match name {
                "b" => report(&[("b", Passed)]),
                _ => report(&[("c", Passed), ("c#2", Failed)]),
            })
        })
        .unwrap();
        assert_eq!(asked, ["b", "c"]);
        assert_eq!(first.flaky, ["b"]);
        assert_eq!((first.count().passed, first.count().failed), (2, 1));
        assert!(first.said.is_empty());
    }

    #[test]
    fn what_does_not_run_alone_stays_failed() {
        let mut first = report(&[("a", Outcome::Failed)]);
        run_again(&mut first, |_| Ok(Report::default())).unwrap();
        assert_eq!(first.count().failed, 1);
        run_again(&mut first, |_| {
            Ok(report(&[("a", Outcome::Skipped("no".to_owned()))]))
        })
        .unwrap();
        assert_eq!(first.count().failed, 1);
    }

    #[test]
    fn many_failures_and_deaths_are_no_chance() {
        let names = ["a", "b", "c", "d"].map(|name| (name, Outcome::Failed));
        let mut many = report(&names);
        run_again(&mut many, |_| panic!("run again")).unwrap();
        let mut died = report(&names[..1]);
        died.broken.push("it died".to_owned());
        run_again(&mut died, |_| panic!("run again")).unwrap();
    }
}
