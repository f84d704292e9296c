//! The network between nodes: for every ordered pair a connection with two classes of messages, each in order unless
//! a fault says otherwise. It decides what becomes of a message and when; the world carries it out.

use std::collections::BTreeMap;
use std::time::Duration;

use raftline_proto::ids::NodeId;
use raftline_proto::time::Monotonic;

use super::chance::{Chance, Odds};

/// Which of the two streams of a connection a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Votes, liveness, answers.
    Control,
    /// Appends with entries.
    Bulk,
}

/// How the network behaves in this run.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The shortest time that a message takes.
    pub delay_min: Duration,
    /// The longest, but for spikes.
    pub delay_max: Duration,
    /// A message that takes up to [`Rules::spike_max`] instead. It holds up what comes after it in its stream.
    pub spike: Odds,
    /// The longest spike.
    pub spike_max: Duration,
    /// A message that vanishes though the connection stays.
    pub loss: Odds,
    /// A message that comes twice.
    pub duplicate: Odds,
    /// A message that does not wait for those before it.
    pub reorder: Odds,
    /// A message of a connection that is gone, delivered all the same.
    pub stale: Odds,
    /// What a stream holds before the sender is told "busy".
    pub stream_bytes_max: u64,
}

impl Rules {
    /// A network without faults: what the end of every run gets.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self {
            spike: Odds::NEVER,
            loss: Odds::NEVER,
            duplicate: Odds::NEVER,
            reorder: Odds::NEVER,
            stale: Odds::NEVER,
            ..self
        }
    }
}

/// All connections.
#[derive(Debug)]
pub struct Network {
    rules: Rules,
    links: BTreeMap<(NodeId, NodeId), Link>,
    chance: Chance,
}

/// The connection that one node dialled to another.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    connected: bool,
    /// Counts connections, so that what an old one carried is known.
    generation: u64,
    /// How many partitions cut this direction now.
    cuts: u32,
    /// When the last message of each class arrives.
    last_arrival: [Monotonic; 2],
    /// Bytes under way in each class.
    under_way: [u64; 2],
}

/// One copy of a message under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Who sent it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// Its stream.
    pub class: Class,
    /// Its size.
    pub bytes: u64,
    /// The connection it left on.
    pub generation: u64,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Refused: no connection, or its stream is full.
    Busy,
    /// It vanishes on the way.
    Lost,
    /// It arrives at these times, in this way.
    Arrives {
        /// When, and whether it is a second copy.
        at: Vec<Monotonic>,
        /// To be handed back on each arrival.
        flight: Flight,
        /// Whether it may overtake others.
        overtakes: bool,
    },
}

/// What becomes of a message that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is handed over.
    Good,
    /// It is handed over though its connection is gone.
    Stale,
    /// It died with its connection, or in a partition.
    Dead,
}

impl Network {
    /// Connections between all pairs of `nodes`, none of them up.
    #[must_use]
    pub fn new(nodes: &[NodeId], rules: Rules, chance: Chance) -> Self {
        let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
        let links = pairs.filter(|(from, to)| from != to).map(|pair| (pair, Link::default())).collect();
        Self { rules, links, chance }
    }

    /// Changes the rules from now on.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Sends a message of so many bytes.
    pub fn send(&mut self, now: Monotonic, from: NodeId, to: NodeId, class: Class, bytes: u64) -> Fate {
        let rules = self.rules;
        let Some(link) = self.links.get_mut(&(from, to)).filter(|link| link.connected) else {
            return Fate::Busy;
        };
        let lane = class as usize;
        if link.under_way[lane] > 0 && link.under_way[lane] + bytes > rules.stream_bytes_max {
            return Fate::Busy;
        }
        if link.cuts > 0 || self.chance.hit(rules.loss) {
            return Fate::Lost;
        }
        let spike = self.chance.hit(rules.spike);
        let longest = if spike { rules.spike_max } else { rules.delay_max };
        let mut arrival = now + self.chance.span(rules.delay_min, longest);
        let overtakes = self.chance.hit(rules.reorder);
        if !overtakes {
            arrival = arrival.max(Monotonic(link.last_arrival[lane].0 + 1));
            link.last_arrival[lane] = arrival;
        }
        let mut at = vec![arrival];
        if self.chance.hit(rules.duplicate) {
            at.push(arrival + self.chance.span(Duration::ZERO, rules.delay_max * 20));
        }
        link.under_way[lane] += bytes * at.len() as u64;
        Fate::Arrives {
            at,
            flight: Flight { from, to, class, bytes, generation: link.generation },
            overtakes,
        }
    }

    /// A copy arrives.
    pub fn arrive(&mut self, flight: Flight) -> Arrival {
        let Some(link) = self.links.get_mut(&(flight.from, flight.to)) else {
            return Arrival::Dead;
        };
        if link.generation == flight.generation {
            let under_way = &mut link.under_way[flight.class as usize];
            *under_way = under_way.saturating_sub(flight.bytes);
        }
        if link.cuts > 0 {
            return Arrival::Dead;
        }
        if link.connected && link.generation == flight.generation {
            return Arrival::Good;
        }
        if self.chance.hit(self.rules.stale) { Arrival::Stale } else { Arrival::Dead }
    }

    /// Whether `from` has a connection to `to`, and which.
    #[must_use]
    pub fn connection(&self, from: NodeId, to: NodeId) -> Option<u64> {
        self.links.get(&(from, to)).filter(|link| link.connected).map(|link| link.generation)
    }

    /// Tries to connect. Needs both directions, as any handshake. Returns whether it is newly connected.
    pub fn dial(&mut self, from: NodeId, to: NodeId) -> bool {
        let cut = |pair| self.links.get(&pair).is_none_or(|link| link.cuts > 0);
        if cut((from, to)) || cut((to, from)) {
            return false;
        }
        match self.links.get_mut(&(from, to)) {
            Some(link) if !link.connected => {
                *link = Link { connected: true, generation: link.generation + 1, cuts: 0, ..Link::default() };
                true
            }
            Some(_) | None => false,
        }
    }

    /// Breaks a connection; what is under way on it dies. Returns whether there was one.
    pub fn hang_up(&mut self, from: NodeId, to: NodeId) -> bool {
        match self.links.get_mut(&(from, to)) {
            Some(link) if link.connected => {
                link.connected = false;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Cuts these directions; cuts add up.
    pub fn cut(&mut self, directions: &[(NodeId, NodeId)]) {
        for pair in directions {
            if let Some(link) = self.links.get_mut(pair) {
                link.cuts += 1;
            }
        }
    }

    /// Undoes one [`Network::cut`].
    pub fn mend(&mut self, directions: &[(NodeId, NodeId)]) {
        for pair in directions {
            if let Some(link) = self.links.get_mut(pair) {
                link.cuts = link.cuts.saturating_sub(1);
            }
        }
    }

    /// Undoes all cuts.
    pub fn mend_all(&mut self) {
        for link in self.links.values_mut() {
            link.cuts = 0;
        }
    }

    /// Every ordered pair.
    #[must_use]
    pub fn pairs(&self) -> Vec<(NodeId, NodeId)> {
        self.links.keys().copied().collect()
    }

    /// The most bytes under way on one stream.
    #[must_use]
    pub fn fullest(&self) -> u64 {
        self.links.values().flat_map(|link| link.under_way).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn rules() -> Rules {
        Rules {
            delay_min: Duration::from_micros(100),
            delay_max: Duration::from_micros(900),
            spike: Odds::NEVER,
            spike_max: Duration::from_millis(50),
            loss: Odds::NEVER,
            duplicate: Odds::NEVER,
            reorder: Odds::NEVER,
            stale: Odds::NEVER,
            stream_bytes_max: 1000,
        }
    }

    fn network(rules: Rules) -> Network {
        let mut network = Network::new(&[A, B], rules, Chance::from_seed(3));
        assert!(network.dial(A, B));
        network
    }

    fn arrivals(fate: Fate) -> (Vec<Monotonic>, Flight) {
        match fate {
            Fate::Arrives { at, flight, .. } => (at, flight),
            other => panic!("not under way: {other:?}"),
        }
    }

    #[test]
    fn a_stream_keeps_its_order_and_its_bound() {
        let mut network = network(rules());
        let mut last = Monotonic::ZERO;
        for _ in 0..10 {
            let (at, _) = arrivals(network.send(Monotonic::ZERO, A, B, Class::Bulk, 100));
            assert!(at[0] > last);
            last = at[0];
        }
        assert_eq!(network.send(Monotonic::ZERO, A, B, Class::Bulk, 100), Fate::Busy);
        assert!(matches!(network.send(Monotonic::ZERO, A, B, Class::Control, 100), Fate::Arrives { .. }));
        assert_eq!(network.fullest(), 1000);
    }

    #[test]
    fn what_is_under_way_dies_with_its_connection() {
        let mut network = network(rules());
        let (_, flight) = arrivals(network.send(Monotonic::ZERO, A, B, Class::Control, 1));
        assert!(network.hang_up(A, B));
        assert_eq!(network.send(Monotonic::ZERO, A, B, Class::Control, 1), Fate::Busy);
        assert!(network.dial(A, B));
        assert_eq!(network.arrive(flight), Arrival::Dead);
        network.set_rules(Rules { stale: Odds::percent(100), ..rules() });
        assert_eq!(network.arrive(flight), Arrival::Stale);
    }

    #[test]
    fn a_cut_goes_one_way_but_no_handshake_passes_it() {
        let mut network = network(rules());
        network.cut(&[(B, A)]);
        assert!(matches!(network.send(Monotonic::ZERO, A, B, Class::Control, 1), Fate::Arrives { .. }));
        assert!(network.hang_up(A, B));
        assert!(!network.dial(A, B));
        network.mend(&[(B, A)]);
        assert!(network.dial(A, B));
    }

    #[test]
    fn faults_happen_when_asked_for() {
        let mut lossy = network(Rules { loss: Odds::percent(100), ..rules() });
        assert_eq!(lossy.send(Monotonic::ZERO, A, B, Class::Control, 1), Fate::Lost);
        let mut twice = network(Rules { duplicate: Odds::percent(100), ..rules() });
        assert_eq!(arrivals(twice.send(Monotonic::ZERO, A, B, Class::Control, 1)).0.len(), 2);
    }
}
