//! The configuration of the running node: read by all threads, changed by `CONFIG SET`.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use distcache_protocol::glob;

use super::file;
use super::options::{self, Change, Named};
use super::raw::{Problem, RawConfig, Source};
use super::settings::Config;
use super::value::{Value, ValueError};

/// The configuration as it is now; shared by all threads in an `Arc`.
///
/// A reader keeps the `Arc<Config>` and asks for another when [`LiveConfig::generation`] changed,
/// which costs one atomic load.
#[derive(Debug)]
pub struct LiveConfig {
    generation: AtomicU64,
    state: Mutex<State>,
    /// The file that `CONFIG REWRITE` writes.
    file: Option<PathBuf>,
    /// Held while the file is written, so that no reader waits for the disk.
    rewriting: Mutex<()>,
}

#[derive(Debug)]
struct State {
    raw: RawConfig,
    current: Arc<Config>,
}

/// Why `CONFIG SET` changed nothing; the text follows `-ERR `, as Redis 7.0 words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There is no such option.
    #[error("Unknown option or number of arguments for CONFIG SET - '{}'", lossy(.name))]
    Unknown {
        /// The name as it was given: any bytes.
        name: Vec<u8>,
    },
    /// An option cannot be changed, or not to this value.
    #[error("CONFIG SET failed (possibly related to argument '{name}') - {reason}")]
    Failed {
        /// The option.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl SetError {
    /// Says why an option is not changed.
    pub fn failed(name: &str, reason: &str) -> Self {
        Self::Failed { name: name.to_owned(), reason: reason.to_owned() }
    }
}

/// Why `CONFIG REWRITE` left the file as it was; the text follows `-ERR `.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The node was started without `--config`.
    #[error("The server is running without a config file")]
    NoFile,
    /// The file could not be read, understood or replaced.
    #[error("Rewriting config file: {0}")]
    Io(#[from] io::Error),
}

impl LiveConfig {
    /// Starts with `raw`; `file` is what `CONFIG REWRITE` writes.
    ///
    /// # Errors
    /// The broken relations between options.
    pub fn new(raw: RawConfig, file: Option<PathBuf>) -> Result<Self, Vec<Problem>> {
        let current = Arc::new(Config::new(&raw)?);
        Ok(Self {
            generation: AtomicU64::new(0),
            state: Mutex::new(State { raw, current }),
            file,
            rewriting: Mutex::new(()),
        })
    }

    /// Returns the configuration of now. Cost: an uncontended lock.
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.state().current)
    }

    /// Returns a number that changes with every successful [`LiveConfig::set`].
    ///
    /// Read it before [`LiveConfig::current`]: then a change between the two is seen next time.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// `CONFIG GET`: names and values of the options that match any of `patterns`, each name once.
    ///
    /// Shows passwords of clients, as Redis does, but not the secret of the cluster: who may use
    /// the data is no node yet.
    pub fn get<P: AsRef<[u8]>>(&self, patterns: &[P]) -> Vec<(String, String)> {
        let state = self.state();
        let mut seen: Vec<&'static str> = Vec::new();
        let mut found = Vec::new();
        for pattern in patterns.iter().map(AsRef::as_ref) {
            let is_glob = pattern.iter().any(|byte| b"[*?".contains(byte));
            for named in options::names() {
                let name = named.name.as_bytes();
                let matched = if is_glob {
                    glob::matches_ignoring_case(pattern, name)
                } else {
                    name.eq_ignore_ascii_case(pattern)
                };
                if !matched || seen.contains(&named.name) {
                    continue;
                }
                seen.push(named.name);
                // A name that was spelt out is answered in that spelling.
                let shown = if is_glob { name } else { pattern };
                let value = if named.spec.hidden { String::new() } else { state.raw.text(named) };
                found.push((String::from_utf8_lossy(shown).into_owned(), value));
            }
        }
        found
    }

    /// `CONFIG SET`: changes all the options named in `pairs`, or none.
    ///
    /// # Errors
    /// The first obstacle, in the order in which Redis looks for them.
    pub fn set<N: AsRef<[u8]>, V: AsRef<[u8]>>(&self, pairs: &[(N, V)]) -> Result<(), SetError> {
        self.set_and(pairs, |_| Ok(()))
    }

    /// As [`LiveConfig::set`], and lets `apply` bring the new configuration to where copies of its
    /// values are kept. One change is applied after the other, in the order in which they are
    /// made, so that the copies end as the configuration does. `apply` must not ask this for
    /// anything but the generation; where it fails, it has changed nothing.
    ///
    /// # Errors
    /// As [`LiveConfig::set`]; nothing is applied then. What `apply` returns.
    pub fn set_and<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: &[(N, V)],
        apply: impl FnOnce(&Config) -> Result<(), SetError>,
    ) -> Result<(), SetError> {
        let names: Vec<&[u8]> = pairs.iter().map(|(name, _)| name.as_ref()).collect();
        let options = changeable(&names)?;
        let mut state = self.state();
        let mut raw = state.raw.clone();
        for (named, (_, text)) in options.iter().zip(pairs) {
            let value = std::str::from_utf8(text.as_ref())
                .map_err(|_| ValueError("argument must be valid UTF-8".to_owned()))
                .and_then(|text| named.spec.kind.parse(named.dialect, text, raw.value(named.row)))
                .map_err(|error| SetError::failed(named.name, &error.to_string()))?;
            let is_same = value == *raw.value(named.row);
            match named.spec.change {
                Change::Live => raw.put(named.row, value, Source::ConfigSet),
                Change::Steady if is_same => {}
                Change::Steady | Change::Fixed | Change::Protected => {
                    let reason = "can't be changed while the node runs, only at start";
                    return Err(SetError::failed(named.name, reason));
                }
            }
        }
        let config = Config::new(&raw).map_err(|problems| {
            // The relation may blame an option that stays as it is: name one that was set.
            let reason = problems.into_iter().next().map_or_else(String::new, |p| p.reason);
            SetError::failed(options.first().map_or("", |named| named.name), &reason)
        })?;
        apply(&config)?;
        *state = State { raw, current: Arc::new(config) };
        // Within the lock, so that generations and configurations come in the same order.
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Lowers `maxclients` to what the system allows, if it is more. That is no setting of the
    /// operator: the option counts as coming from where it came from.
    pub fn lower_maxclients(&self, clients: u32) {
        let row = options::find("maxclients").expect("a test finds it").row;
        let mut state = self.state();
        if state.current.maxclients <= clients {
            return;
        }
        let source = state.raw.source(row);
        state.raw.put(row, Value::Integer(clients.into()), source);
        state.current = Arc::new(Config { maxclients: clients, ..(*state.current).clone() });
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// `CONFIG REWRITE`: writes what [`LiveConfig::set`] changed into the file of `--config`.
    ///
    /// Blocks on the disk: call it where that is allowed.
    ///
    /// # Errors
    /// [`RewriteError`]; the file is then unchanged.
    pub fn rewrite(&self) -> Result<(), RewriteError> {
        let path = self.file.as_ref().ok_or(RewriteError::NoFile)?;
        let _alone = self.rewriting.lock().unwrap_or_else(PoisonError::into_inner);
        let raw = self.state().raw.clone();
        file::rewrite(path, &raw)?;
        Ok(())
    }

    /// Returns the file of `--config`, as `INFO` shows it.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.file.as_deref()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is replaced as a whole, so it is sound even if a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the options that `CONFIG SET` names: all known, changeable, and each only once.
fn changeable(names: &[&[u8]]) -> Result<Vec<Named>, SetError> {
    let mut options: Vec<Named> = Vec::with_capacity(names.len());
    for typed in names {
        let (name, typed) = (typed.to_vec(), lossy(typed));
        let named = options::find(&typed).ok_or(SetError::Unknown { name })?;
        if let Some(reason) = named.spec.change.refusal() {
            return Err(SetError::failed(&typed, reason));
        }
        // As in Redis, an alias and the name it stands for are not duplicates: the last one wins.
        if options.iter().any(|before| before.name == named.name) {
            return Err(SetError::failed(&typed, "duplicate parameter"));
        }
        options.push(named);
    }
    Ok(options)
}

fn lossy(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}
