//! Runs sequences on two servers, finds the first difference and shortens what leads to it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use crate::compare::equal;
use crate::differences::{Compare, compare_for};
use crate::fixed;
use crate::grammar::{Generator, closing_steps};
use crate::step::Step;
use crate::support::random::{Random, number_from_env, seed};
use crate::support::server::Server;
use crate::support::text::{quote, show_request, show_tree};
use crate::support::wire::{Reply, Request, Tree, Wire};

/// Replays that shortening one failure may cost.
const SHRINK_REPLAYS: usize = 300;
/// Failures reported by one test: more of them say little that is new.
const REPORTED: usize = 12;

/// The server under test and the one that is right by definition.
pub(crate) struct Pair {
    tested: Server,
    reference: Server,
}

/// A sequence whose last step is answered differently.
pub(crate) struct Finding {
    /// The shortest sequence found.
    pub(crate) steps: Vec<Step>,
    batch: usize,
    tested: String,
    reference: String,
    origin: String,
}

/// The first step that differs, and what each server said.
struct Mismatch {
    at: usize,
    tested: String,
    reference: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- {}, {} in one write", self.origin, self.batch)?;
        for step in &self.steps {
            writeln!(f, "  {}", step.show())?;
        }
        writeln!(f, "    tested: {}", self.tested)?;
        writeln!(f, "    redis:  {}", self.reference)
    }
}

impl Pair {
    /// Returns the pair.
    pub(crate) fn new(tested: Server, reference: Server) -> Self {
        Self { tested, reference }
    }

    /// Returns the server under test.
    pub(crate) fn tested(&self) -> &Server {
        &self.tested
    }

    /// Returns the real Redis.
    pub(crate) fn reference(&self) -> &Server {
        &self.reference
    }

    /// Runs random sequences, half of them in RESP3.
    ///
    /// # Panics
    /// When a reply differs: with the shortest sequences that show it.
    pub(crate) fn check_random(&self, name: &str, sequences: u64) {
        report(&self.random_differences(name, sequences));
    }

    /// Runs random sequences and returns what differs, each kind of command once.
    pub(crate) fn random_differences(&self, name: &str, sequences: u64) -> Vec<Finding> {
        let seed = seed(name);
        let mut findings: Vec<Finding> = Vec::new();
        let mut seen = BTreeSet::new();
        for number in 0..number_from_env("DISTCACHE_TEST_CASES", sequences) {
            let mut generator = Generator::new(Random::new(seed ^ number << 32));
            let length = generator.random.below(50) + 5;
            let mut steps: Vec<Step> = Vec::new();
            if number % 2 == 1 {
                steps.push(Step::words(&["HELLO", "3"]));
            }
            steps.extend((0..length).map(|_| generator.step()));
            steps.extend(closing_steps());
            let batch = *generator.random.pick(&[1, 1, 4, 30]);
            let Some(mismatch) = self.play(&steps, batch) else { continue };
            if seen.insert(kind_of(&steps[mismatch.at])) {
                steps.truncate(mismatch.at + 1);
                let origin = format!("seed {seed}, sequence {number}");
                findings.push(self.shrink(steps, batch, mismatch, origin));
            }
            if findings.len() == REPORTED {
                break;
            }
        }
        findings
    }

    /// Runs the hand-made sequences, in RESP2 and RESP3, one by one and in one write.
    pub(crate) fn check_fixed(&self) {
        let mut findings = Vec::new();
        for (name, lines) in fixed::sequences() {
            for (protocol, batch) in [("2", 1), ("2", 1000), ("3", 1), ("3", 1000)] {
                let mut steps = vec![Step::words(&["HELLO", protocol])];
                steps.extend(lines.iter().cloned());
                if let Some(mismatch) = self.play(&steps, batch) {
                    steps.truncate(mismatch.at + 1);
                    findings.push(self.shrink(steps, batch, mismatch, name.to_string()));
                    break;
                }
            }
        }
        report(&findings);
    }

    /// Sends bytes as they are, on a connection of their own, until the server closes it.
    pub(crate) fn check_raw(&self) {
        let mut failures = Vec::new();
        for (name, bytes) in fixed::raw() {
            let [tested, reference] = [&self.tested, &self.reference].map(|server| {
                server.connect().call(&["FLUSHALL"]);
                let mut wire = server.connect();
                // A server that closes at once may reset the connection while we still write.
                let sent = wire.send_raw(&bytes);
                match wire.read_to_close() {
                    Ok(said) => quote(&said),
                    Err(error) => format!("no close: {error} (sent: {sent:?})"),
                }
            });
            if tested != reference {
                failures.push(format!("{name}\n    tested: {tested}\n    redis:  {reference}"));
            }
        }
        assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    }

    /// Plays a sequence on new connections and empty servers and returns the first difference.
    fn play(&self, steps: &[Step], batch: usize) -> Option<Mismatch> {
        let mut player =
            Player { tested: self.tested.connect(), reference: self.reference.connect() };
        for wire in [&mut player.tested, &mut player.reference] {
            wire.call(&["FLUSHALL"]);
        }
        let mut at = 0;
        while at < steps.len() {
            let commands = steps[at..].iter().take(batch).map_while(|step| match step {
                Step::Command(request) => Some(request.clone()),
                _ => None,
            });
            let commands: Vec<Request> = commands.collect();
            let outcome = match &steps[at] {
                Step::Command(_) => player.commands(&commands),
                Step::FullScan(options) => player.full_scan(options).map(|said| (0, said)),
                Step::Transfer(key) => player.transfer(key).map(|said| (0, said)),
            };
            if let Some((index, (tested, reference))) = outcome {
                self.tested.restore_settings();
                self.reference.restore_settings();
                return Some(Mismatch { at: at + index, tested, reference });
            }
            at += commands.len().max(1);
        }
        None
    }

    /// Leaves out one step after the other as long as the last one still differs.
    fn shrink(
        &self,
        mut steps: Vec<Step>,
        batch: usize,
        mut mismatch: Mismatch,
        origin: String,
    ) -> Finding {
        let batches = if batch == 1 { vec![1] } else { vec![1, batch] };
        let mut batch = batch;
        for smaller in batches {
            if let Some(found) = self.play(&steps, smaller)
                && found.at + 1 == steps.len()
            {
                (batch, mismatch) = (smaller, found);
                break;
            }
        }
        let mut replays = 0;
        let mut at = steps.len() - 1;
        while at > 0 && replays < SHRINK_REPLAYS {
            at -= 1;
            let mut shorter = steps.clone();
            shorter.remove(at);
            replays += 1;
            if let Some(found) = self.play(&shorter, batch)
                && found.at + 1 == shorter.len()
            {
                (steps, mismatch) = (shorter, found);
            }
        }
        let Mismatch { tested, reference, .. } = mismatch;
        Finding { steps, batch, tested, reference, origin }
    }
}

/// One connection to each server.
struct Player {
    tested: Wire,
    reference: Wire,
}

type Said = (String, String);

impl Player {
    /// Sends the commands in one write and returns the first that is answered differently.
    fn commands(&mut self, requests: &[Request]) -> Option<(usize, Said)> {
        let sent = [self.tested.send(requests), self.reference.send(requests)];
        if sent.iter().any(Result::is_err) {
            return Some((0, (format!("{:?}", sent[0]), format!("{:?}", sent[1]))));
        }
        for (index, request) in requests.iter().enumerate() {
            let [tested, reference] = [self.tested.read(), self.reference.read()];
            let same = match (&tested, &reference) {
                (Ok(tested), Ok(reference)) => equal(compare_for(request), tested, reference),
                _ => false,
            };
            if !same {
                return Some((index, (show(&tested), show(&reference))));
            }
        }
        None
    }

    fn full_scan(&mut self, options: &Request) -> Option<Said> {
        let tested = scan_all(&mut self.tested, options);
        let reference = scan_all(&mut self.reference, options);
        (tested != reference).then_some((tested, reference))
    }

    fn transfer(&mut self, key: &[u8]) -> Option<Said> {
        let dump = [b"DUMP".to_vec(), key.to_vec()];
        let tested = self.tested.try_call(&dump);
        let reference = self.reference.try_call(&dump);
        let (Ok(from_tested), Ok(from_reference)) = (&tested, &reference) else {
            return Some((show(&tested), show(&reference)));
        };
        if !equal(Compare::SameKind, from_tested, from_reference) {
            return Some((show(&tested), show(&reference)));
        }
        let payloads = [&from_tested.tree, &from_reference.tree];
        for payload in payloads {
            let Tree::Bulk(payload) = payload else { return None };
            let restore = ["RESTORE", "restored", "0", "", "REPLACE"];
            let mut restore: Request = restore.iter().map(|w| w.as_bytes().to_vec()).collect();
            restore[3] = payload.clone();
            let read = ["GET", "restored"].map(|word| word.as_bytes().to_vec()).to_vec();
            let encoding = ["OBJECT", "ENCODING", "restored"];
            let encoding = encoding.map(|word| word.as_bytes().to_vec()).to_vec();
            let remove = ["DEL", "restored"].map(|word| word.as_bytes().to_vec()).to_vec();
            if let Some((_, said)) = self.commands(&[restore, read, encoding, remove]) {
                return Some(said);
            }
        }
        None
    }
}

/// Scans to the end and returns the sorted set of keys, or the reply that stopped it.
fn scan_all(wire: &mut Wire, options: &Request) -> String {
    let mut keys = BTreeSet::new();
    let mut cursor = b"0".to_vec();
    for _ in 0..100_000 {
        let mut request = vec![b"SCAN".to_vec(), cursor];
        request.extend(options.iter().cloned());
        let reply = wire.try_call(&request);
        let Ok(Reply { tree: Tree::Array(parts), .. }) = &reply else { return show(&reply) };
        let [Tree::Bulk(next), Tree::Array(found)] = &parts[..] else { return show(&reply) };
        keys.extend(found.iter().map(show_tree));
        if next == b"0" {
            return keys.into_iter().collect::<Vec<_>>().join(" ");
        }
        cursor = next.clone();
    }
    "a scan without end".to_owned()
}

fn show(reply: &io::Result<Reply>) -> String {
    match reply {
        Ok(reply) => {
            let (text, raw) = (show_tree(&reply.tree), reply.raw.escape_ascii().to_string());
            let raw = if raw.len() < 300 { format!("  ({raw})") } else { String::new() };
            format!("{}{raw}", text.chars().take(2_000).collect::<String>())
        }
        Err(error) => format!("no reply: {error}"),
    }
}

fn kind_of(step: &Step) -> String {
    match step {
        Step::Command(request) => {
            let name = request.first().map(|word| word.to_ascii_lowercase());
            show_request(&[name.unwrap_or_default()])
        }
        Step::FullScan(_) => "full scan".to_owned(),
        Step::Transfer(_) => "transfer".to_owned(),
    }
}

fn report(findings: &[Finding]) {
    let text: String = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} differences\n{text}", findings.len());
}
