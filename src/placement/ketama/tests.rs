//! Pure: splitting, walking and refusing; that points lie where nginx has them is proved against
//! nginx itself in `tests/integration/ketama_nginx.rs`.

use super::super::tests::equal;
use super::super::{Algorithm, Placement, Replication};
use super::*;

fn ketama(members: &[Member]) -> Result<Placement, PlacementError> {
    Placement::build(Algorithm::Ketama, members, Replication::NONE)
}

#[test]
fn splits_servers_as_nginx_does() {
    for (text, host, port) in [
        ("10.0.0.1:80", "10.0.0.1", "80"),
        ("10.0.0.1", "10.0.0.1", ""),
        ("[::1]:8080", "[::1]", "8080"),
        ("[::1]", "[::1]", ""),
        ("node:", "node", ""),
        ("node:http", "node:http", ""),
        ("8080", "8080", ""),
        (":8080", "", "8080"),
        ("unix:/run/a:1", "/run/a:1", ""),
        ("UNIX:/run/a", "/run/a", ""),
        ("unix", "unix", ""),
        ("zürich:1", "zürich", "1"),
    ] {
        let expected = Server {
            host: host.as_bytes(),
            port: port.as_bytes(),
        };
        assert_eq!(Server::split(text), expected, "{text}");
    }
}

#[test]
fn candidates_are_the_members_of_the_points_that_follow() {
    let members = equal(30);
    let placement = ketama(&members).unwrap();
    let mut points = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let server = Server::split(member.hash_key.as_deref().unwrap());
        points.extend(
            server
                .points()
                .take(160)
                .map(|point| (u64::from(point), index)),
        );
    }
    points.sort_unstable();
    for token in [0, 1, 1 << 31, 0xffff_ffff]
        .into_iter()
        .chain((0..1 << 32).step_by(9_999_991))
    {
        let first = points
            .iter()
            .position(|(point, _)| *point >= token)
            .unwrap_or(0);
        let walk = points[first..]
            .iter()
            .chain(&points[..first])
            .map(|(_, index)| *index);
        let mut expected = Vec::new();
        walk.for_each(|index| {
            if !expected.contains(&index) {
                expected.push(index);
            }
        });
        let candidates = placement
            .candidates(Token::new(token))
            .map(MemberIndex::as_usize);
        assert_eq!(candidates.collect::<Vec<_>>(), expected, "token {token:x}");
    }
}

#[test]
fn weights_are_numbers_of_points() {
    let mut members = equal(3);
    members[1].weight = 3;
    let shares = ketama(&members).unwrap().ownership();
    assert!((0.52..0.68).contains(&shares[1]), "{shares:?}");
}

#[test]
fn refuses_members_that_nginx_cannot_tell_apart() {
    let mut members = equal(2);
    members[1].hash_key = Some("10.0.0.0:".to_owned());
    members[0].hash_key = Some("10.0.0.0".to_owned());
    let (first, second) = ("users-0".to_owned(), "users-1".to_owned());
    assert_eq!(
        ketama(&members).unwrap_err(),
        PlacementError::SameHashKey { first, second }
    );
}

#[test]
fn refuses_members_without_a_hash_key() {
    let mut members = equal(2);
    for hash_key in [None, Some(String::new())] {
        members[1].hash_key = hash_key;
        let missing = PlacementError::MissingHashKey {
            name: "users-1".to_owned(),
        };
        assert_eq!(ketama(&members).unwrap_err(), missing);
    }
}

#[test]
fn refuses_more_points_than_it_will_hold() {
    let mut members = equal(1);
    members[0].weight = 26_215;
    let error = PlacementError::TooManyPoints {
        found: 26_215,
        max: 26_214,
    };
    assert_eq!(ketama(&members).unwrap_err(), error);
}
