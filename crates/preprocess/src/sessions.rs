//! Sessions: consecutive events of a user, numbered from 0.

use std::collections::BTreeMap;

/// Numbers the sessions of one user after the other, event by event in sequence order.
pub(crate) struct Sessions {
    gap_ms: i64,
    user: Option<String>,
    last_at: Option<i64>,
    current: u32,
    own: BTreeMap<String, u32>,
    n_opened: u64,
}

impl Sessions {
    /// Cuts at gaps of so many minutes; 0 takes the log's own sessions, numbered by first event.
    pub(crate) fn new(gap_minutes: u32) -> Self {
        Self {
            gap_ms: i64::from(gap_minutes) * 60_000,
            user: None,
            last_at: None,
            current: 0,
            own: BTreeMap::new(),
            n_opened: 0,
        }
    }

    /// The session of the next event.
    pub(crate) fn next(&mut self, user: &str, at: Option<i64>, session_id: Option<&str>) -> u32 {
        let is_new_user = self.user.as_deref() != Some(user);
        if is_new_user {
            self.user = Some(user.to_owned());
            self.last_at = None;
            self.current = 0;
            self.own.clear();
        }
        if self.gap_ms == 0 {
            return self.own_session(session_id);
        }
        let is_after_gap = match (self.last_at, at) {
            (Some(last), Some(at)) => at.saturating_sub(last) > self.gap_ms,
            _ => false,
        };
        self.current += u32::from(is_after_gap);
        self.n_opened += u64::from(is_new_user || is_after_gap);
        self.last_at = at.or(self.last_at);
        self.current
    }

    /// Events without a session of the log share one.
    fn own_session(&mut self, session_id: Option<&str>) -> u32 {
        let session_id = session_id.unwrap_or_default();
        if let Some(session) = self.own.get(session_id) {
            return *session;
        }
        let session = u32::try_from(self.own.len()).unwrap_or(u32::MAX);
        self.own.insert(session_id.to_owned(), session);
        self.n_opened += 1;
        session
    }

    /// Sessions so far, over all users.
    pub(crate) fn n_opened(&self) -> u64 {
        self.n_opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_ends_a_session_and_a_user_starts_anew() {
        let mut sessions = Sessions::new(30);
        let minute = 60_000;
        let at = [("a", 0), ("a", 30), ("a", 61), ("a", 61), ("b", 61)];
        let numbers: Vec<u32> = at
            .iter()
            .map(|(user, at)| sessions.next(user, Some(at * minute), None))
            .collect();
        assert_eq!(numbers, [0, 0, 1, 1, 0]);
        assert_eq!(sessions.n_opened(), 3);
    }

    #[test]
    fn the_logs_own_sessions_are_numbered_by_first_event() {
        let mut sessions = Sessions::new(0);
        let ids = [("a", "x"), ("a", "y"), ("a", "x"), ("b", "y")];
        let numbers: Vec<u32> = ids
            .iter()
            .map(|(user, id)| sessions.next(user, None, Some(id)))
            .collect();
        assert_eq!(numbers, [0, 1, 0, 0]);
        assert_eq!(sessions.n_opened(), 3);
    }

    #[test]
    fn a_log_without_instants_has_no_gaps() {
        let mut sessions = Sessions::new(30);
        assert_eq!(sessions.next("a", None, Some("x")), 0);
        assert_eq!(sessions.next("a", None, Some("y")), 0);
        assert_eq!(sessions.n_opened(), 1);
    }
}
