//! What a node asks the store about the limits of one caller, and what the store answers: one script, so that all nodes
//! are decided one after another.

use redis::{Cmd, FromRedisValue, ParsingError, RedisError, Value, cmd};

use crate::state::ledger::{LimitId, Terms, Tick, Use};

/// Decides all limits of one caller by the store's clock, then takes from all of them or from none.
///
/// KEYS: where each limit is kept. ARGV: nine numbers for each limit: the time to refill one (µs; 0: a quota), the burst or
/// the whole quota, what is needed now, what is wanted, what is worth an answer, what the node has spent (or, if negative,
/// returns) without asking; of a quota, when that began to count, and the ends of the window (s since 1970).
///
/// A bucket is kept as the time at which it will be full (µs since 1970); one that is full is not kept. A quota is kept as
/// `BEGAN:USED:TOLD`: when counting began, what has been used, and the share in percent that nodes have been told of. Each key
/// ends with what it says; that of a quota later, so that a node whose clock is slow refills nobody.
///
/// Returns for each limit: what is given, how long until a request like this is worth asking for again, how long until
/// nothing will have been used any more, what is left (µs, rounded up); of a quota, when counting began, and a share that is
/// used now and nobody was told of.
pub(super) const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limits, refused = {}, false
for i, key in ipairs(KEYS) do
  local at = 9 * i - 9
  local one, most, need = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local want, worth, owed = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local known = redis.call('GET', key)
  local limit = { one = one, most = most, known = known, need = need, want = want, worth = worth }
  limit.looks = want == 0 and owed == 0
  if one > 0 and most > 0 then
    limit.window = one * most
    local full = math.max(now, tonumber(known or '0'))
    limit.full = math.max(now, math.min(full + owed * one, now + limit.window))
    limit.free = math.floor((now + limit.window - limit.full) / one + 0.0001)
  elseif most > 0 then
    limit.began, limit.used, limit.told = tonumber(ARGV[at + 8]), 0, 0
    limit.ends = tonumber(ARGV[at + 9])
    if limit.began > time[1] + 60 then
      return redis.error_reply('ERR the clock of this node is more than a minute ahead of the clock of the store')
    end
    local began, used, told = string.match(known or '', '^(%d+):(%d+):(%d+)$')
    if began and tonumber(began) >= limit.began and tonumber(began) <= time[1] + 86400 then
      limit.began, limit.used, limit.told = tonumber(began), tonumber(used), tonumber(told)
    end
    if tonumber(ARGV[at + 7]) == limit.began then
      limit.used = math.max(0, limit.used + owed)
    end
    limit.free = math.max(0, most - limit.used)
  else
    return redis.error_reply('ERR a limit that allows nothing')
  end
  limits[i] = limit
  refused = refused or limit.free < need
end
local reply = {}
for i, key in ipairs(KEYS) do
  local limit = limits[i]
  local given = 0
  if not refused and limit.want > 0 then
    given = math.min(limit.want, limit.free, math.max(limit.need, limit.worth, math.floor(limit.free / 4)))
  end
  local least, left = math.max(limit.need, limit.worth), limit.free - given
  if limit.full then
    limit.full = limit.full + given * limit.one
    if limit.full > now then
      redis.call('SET', key, string.format('%.3f', limit.full), 'PX', math.ceil((limit.full - now) / 1000) + 1000)
    elseif limit.known then
      redis.call('DEL', key)
    end
    local wait = limit.full + least * limit.one - limit.window - now
    reply[i] = { given, math.max(0, math.ceil(wait)), math.max(0, math.ceil(limit.full - now)), left, 0, 0 }
  else
    limit.used = limit.used + given
    local level, alert = 0, 0
    if limit.used >= limit.most then level = 100 elseif limit.used * 5 >= limit.most * 4 then level = 80 end
    if limit.used * 100 < limit.most * (limit.told - 10) then limit.told = 0 end
    if level > limit.told then
      limit.told, alert = level, level
    end
    local rest = math.max(0, limit.ends * 1000000 - now)
    local kept = string.format('%.0f:%.0f:%.0f', limit.began, limit.used, limit.told)
    if limit.looks then
      alert = 0
    elseif limit.used > 0 or limit.known then
      local ends = math.max(math.ceil(rest / 1000) + 3600000, limit.known and redis.call('PTTL', key) or 0)
      redis.call('SET', key, kept, 'PX', ends)
    end
    reply[i] = { given, left < least and math.ceil(rest) or 0, math.ceil(rest), left, limit.began, alert }
  end
end
return reply
";

/// Resets the usage of a caller: removes buckets, and begins to count quotas from now on, so that what nodes have taken in advance
/// is not returned to the new count. KEYS: where each limit is kept. ARGV: for each, the end of its window (s since 1970; 0: a
/// rate).
pub(super) const RESET: &str = r"
local time = redis.call('TIME')
for i, key in ipairs(KEYS) do
  local ends = tonumber(ARGV[i])
  if ends > 0 and redis.call('EXISTS', key) == 1 then
    local rest = math.max(0, ends - time[1])
    redis.call('SET', key, time[1] .. ':0:0', 'PX', rest * 1000 + 3600000)
  else
    redis.call('DEL', key)
  end
end
return #KEYS
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
    pub(crate) terms: Terms,
    /// What a request that waits needs: without it, nothing is taken from any limit. 0: none waits.
    pub(crate) need: u32,
    /// What is taken at most. 0: nothing is to be taken.
    pub(crate) want: u32,
    /// Less than this is not worth a question of its own, so that more than what is needed may be taken of little.
    pub(crate) worth: u32,
    /// What this node has spent without asking; if negative, what it returns.
    pub(crate) owed: i64,
    /// Of a quota: when what is owed began to count, in seconds since 1970.
    pub(crate) since: u32,
}

/// What the store answers about one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    /// What this node may spend from now on.
    pub(crate) tokens: u32,
    /// How long until a question like this one is worth asking again, in nanoseconds.
    pub(crate) wait: u64,
    /// How long until nothing will have been used any more, in nanoseconds.
    pub(crate) full_after: u64,
    /// What is left in the store for all nodes.
    pub(crate) left: u32,
    /// Of a quota: when the store began to count, in seconds since 1970.
    pub(crate) since: u32,
    /// Of a quota: a share, in percent, that is used now, and of which no node was told; 0: none.
    pub(crate) alert: u8,
}

impl AskedLimit {
    /// Tells the store what was spent without it, or is returned to it. `None` if there is nothing to tell.
    pub(super) fn to_tell(used: &mut Use, now: Tick) -> Option<Self> {
        let id = used.id();
        used.block.left(now);
        let terms = used.block.terms?;
        let owed = used.take_owed(terms, now);
        (owed != 0).then_some(Self { id, terms, need: 0, want: 0, worth: 0, owed, since: used.block.since })
    }

    /// Whether it takes nothing and tells nothing.
    pub(super) fn only_looks(&self) -> bool {
        self.want == 0 && self.owed == 0
    }

    /// Asks what is left, and takes nothing.
    pub(crate) fn look(id: LimitId, terms: Terms) -> Self {
        Self { id, terms, need: 0, want: 0, worth: 0, owed: 0, since: 0 }
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
            let (one, most, since, ends) = match limit.terms {
                // Microseconds: what a double keeps exactly of the time since 1970.
                Terms::Rate { one, burst } => (one as f64 / 1000.0, burst, 0, 0),
                Terms::Quota { count, since, ends } => (0.0, count, since, ends),
            };
            command.arg(one).arg(most).arg(limit.need).arg(limit.want).arg(limit.worth).arg(limit.owed);
            command.arg(limit.since).arg(since).arg(ends);
        }
        command
    }

    /// The command that resets the usage of the caller.
    pub(super) fn reset(&self, prefix: &str) -> Cmd {
        let mut command = cmd("EVAL");
        command.arg(RESET).arg(self.limits.len());
        for key in self.keys(prefix) {
            command.arg(key);
        }
        for limit in &self.limits {
            command.arg(match limit.terms {
                Terms::Rate { .. } => 0,
                Terms::Quota { ends, .. } => ends,
            });
        }
        command
    }

    /// Reads the reply.
    pub(super) fn answer(&self, reply: Value) -> Result<Vec<Given>, RedisError> {
        let rows = Vec::<(i64, i64, i64, i64, i64, i64)>::from_redis_value(reply)?;
        if rows.len() != self.limits.len() {
            return Err(ParsingError::from("an answer about limits does not fit its question").into());
        }
        let microseconds = |value: i64| u64::try_from(value).unwrap_or(0).saturating_mul(1000);
        let count = |value: i64| u32::try_from(value.max(0)).unwrap_or(u32::MAX);
        let given = rows.into_iter().map(|(tokens, wait, full_after, left, since, alert)| Given {
            tokens: count(tokens),
            wait: microseconds(wait),
            full_after: microseconds(full_after),
            left: count(left),
            since: count(since),
            alert: u8::try_from(alert).unwrap_or(0),
        });
        Ok(given.collect())
    }
}
