//! What a node asks the store about the limits of one caller, and what the store answers: one script, so that all nodes
//! are decided one after another.

use redis::{Cmd, FromRedisValue, ParsingError, RedisError, Value, cmd};

use crate::state::ledger::{LimitId, Tick, Use};

/// Decides all limits of one caller by the store's clock, then takes from all of them or from none.
///
/// KEYS: the bucket of each limit. ARGV: how many numbers follow for each limit: the time to refill one (µs), the burst, what
/// is needed now, what is wanted, what is worth an answer, what the node has spent (or, if negative, returns) without asking.
/// A bucket is kept as the time at which it will be full (µs since 1970); one that is full is not kept, and each one ends
/// with its time. Returns for each limit: what is given, how long until a request like this is worth asking for again, how long
/// until the bucket is full, and what is left in it (µs, rounded up).
pub(super) const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limits, refused = {}, false
for i, key in ipairs(KEYS) do
  local at = 6 * i - 6
  local one, burst, need = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local want, worth, owed = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  if one <= 0 or burst <= 0 then
    return redis.error_reply('ERR a limit without a rate')
  end
  local window = one * burst
  local known = redis.call('GET', key)
  local full = math.max(now, tonumber(known or '0'))
  full = math.max(now, math.min(full + owed * one, now + window))
  local free = math.floor((now + window - full) / one + 0.0001)
  limits[i] = { one = one, window = window, known = known, full = full, free = free, need = need, want = want, worth = worth }
  refused = refused or free < need
end
local reply = {}
for i, key in ipairs(KEYS) do
  local limit = limits[i]
  local given = 0
  if not refused and limit.want > 0 then
    given = math.min(limit.want, limit.free, math.max(limit.need, limit.worth, math.floor(limit.free / 4)))
  end
  limit.full = limit.full + given * limit.one
  if limit.full > now then
    redis.call('SET', key, string.format('%.3f', limit.full), 'PX', math.ceil((limit.full - now) / 1000) + 1000)
  elseif limit.known then
    redis.call('DEL', key)
  end
  local wait = limit.full + math.max(limit.need, limit.worth) * limit.one - limit.window - now
  reply[i] = { given, math.max(0, math.ceil(wait)), math.max(0, math.ceil(limit.full - now)), limit.free - given }
end
return reply
";

/// A question about limits of one caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The caller's name in the store.
    pub(crate) account: Box<str>,
    pub(crate) limits: Vec<AskedLimit>,
}

/// What is asked about one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AskedLimit {
    pub(crate) id: LimitId,
    /// Time to refill one, in nanoseconds.
    pub(crate) one: u64,
    pub(crate) burst: u32,
    /// What a request that waits needs: without it, nothing is taken from any limit. 0: none waits.
    pub(crate) need: u32,
    /// What is taken at most. 0: nothing is to be taken.
    pub(crate) want: u32,
    /// Less than this is not worth a question of its own, so that more than what is needed may be taken of little.
    pub(crate) worth: u32,
    /// What this node has spent without asking; if negative, what it returns.
    pub(crate) owed: i64,
}

/// What the store answers about one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    /// What this node may spend from now on.
    pub(crate) tokens: u32,
    /// How long until a question like this one is worth asking again, in nanoseconds.
    pub(crate) wait: u64,
    /// How long until the bucket will be full, in nanoseconds.
    pub(crate) full_after: u64,
    /// What is left in the store for all nodes.
    pub(crate) left: u32,
}

impl AskedLimit {
    /// Tells the store what was spent without it, or is returned to it. `None` if there is nothing to tell.
    pub(super) fn to_tell(used: &mut Use, now: Tick) -> Option<Self> {
        let id = used.id();
        used.block.left(now);
        let owed = used.block.take_owed(used.full_at, now);
        let (one, burst) = used.block.limit;
        (owed != 0 && one > 0).then_some(Self { id, one, burst, need: 0, want: 0, worth: 0, owed })
    }
}

impl Question {
    /// The keys of its limits. The caller's name is what a cluster chooses a server by.
    fn keys(&self, prefix: &str) -> impl Iterator<Item = String> {
        self.limits.iter().map(move |limit| {
            let mut key = format!("{{{prefix}:{}}}:", self.account);
            limit.id.0.iter().for_each(|byte| key.push_str(&format!("{byte:02x}")));
            key
        })
    }

    /// The command that asks it, by the digest of the script or with its text.
    pub(super) fn command(&self, prefix: &str, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(self.limits.len());
        for key in self.keys(prefix) {
            command.arg(key);
        }
        for limit in &self.limits {
            // Microseconds: what a double keeps exactly of the time since 1970.
            let one = limit.one as f64 / 1000.0;
            command.arg(one).arg(limit.burst).arg(limit.need).arg(limit.want).arg(limit.worth).arg(limit.owed);
        }
        command
    }

    /// Reads the reply.
    pub(super) fn answer(&self, reply: Value) -> Result<Vec<Given>, RedisError> {
        let rows = Vec::<(i64, i64, i64, i64)>::from_redis_value(reply)?;
        if rows.len() != self.limits.len() {
            return Err(ParsingError::from("an answer about limits does not fit its question").into());
        }
        let microseconds = |value: i64| u64::try_from(value).unwrap_or(0).saturating_mul(1000);
        let count = |value: i64| u32::try_from(value.max(0)).unwrap_or(u32::MAX);
        let given = rows.into_iter().map(|(tokens, wait, full_after, left)| Given {
            tokens: count(tokens),
            wait: microseconds(wait),
            full_after: microseconds(full_after),
            left: count(left),
        });
        Ok(given.collect())
    }
}
