//! Whether two replies are equal, as far as the table of differences asks.

use crate::differences::Compare;
use crate::support::text::show_tree;
use crate::support::wire::{Reply, Tree};

/// Returns true when the tested server's reply may stand for the reference's.
pub(crate) fn equal(compare: Compare, tested: &Reply, reference: &Reply) -> bool {
    if tested.raw == reference.raw {
        return true;
    }
    let errors = [&tested.tree, &reference.tree].map(|tree| matches!(tree, Tree::Error(_)));
    if errors.contains(&true) {
        return compare == Compare::BothFail && errors == [true, true];
    }
    // What is compared loosely must still be of the same kind on the wire: RESP2 or RESP3.
    if tested.raw[0] != reference.raw[0] {
        return false;
    }
    match compare {
        Compare::Exact | Compare::BothFail => false,
        Compare::Near(distance) => match (&tested.tree, &reference.tree) {
            (Tree::Integer(a), Tree::Integer(b)) => {
                *a >= 0 && *b >= 0 && a.abs_diff(*b) <= distance as u64
            }
            _ => false,
        },
        Compare::AnyOrder => show_sorted(&tested.tree) == show_sorted(&reference.tree),
        Compare::AnyOrderPairs => {
            let [mut a, mut b] = [&tested.tree, &reference.tree].map(pairs);
            a.sort();
            b.sort();
            a == b
        }
        Compare::SameKind => is_null(&tested.tree) == is_null(&reference.tree),
        Compare::SameNames => {
            let [a, b] = [&tested.tree, &reference.tree].map(pairs);
            a.iter().map(|(name, _)| name).eq(b.iter().map(|(name, _)| name))
        }
    }
}

fn is_null(tree: &Tree) -> bool {
    *tree == Tree::Null
}

/// Writes a tree with the items of every array in order, so that only their order is lost.
fn show_sorted(tree: &Tree) -> String {
    let Tree::Array(items) = tree else { return show_tree(tree) };
    let mut items: Vec<String> = items.iter().map(show_sorted).collect();
    items.sort();
    format!("[{}]", items.join(", "))
}

fn pairs(tree: &Tree) -> Vec<(String, String)> {
    match tree {
        Tree::Map(pairs) => pairs.iter().map(|(k, v)| (show_tree(k), show_tree(v))).collect(),
        Tree::Array(items) => {
            let value = |pair: &[Tree]| pair.get(1).map(show_tree).unwrap_or_default();
            items.chunks(2).map(|pair| (show_tree(&pair[0]), value(pair))).collect()
        }
        other => vec![(show_tree(other), String::new())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(number: i64) -> Reply {
        Reply { raw: format!(":{number}\r\n").into_bytes(), tree: Tree::Integer(number) }
    }

    #[test]
    fn a_missing_deadline_is_never_near_a_present_one() {
        assert!(equal(Compare::Near(5), &integer(3), &integer(1)));
        assert!(!equal(Compare::Near(5), &integer(-1), &integer(1)));
        assert!(!equal(Compare::Near(5), &integer(-1), &integer(-2)));
        assert!(!equal(Compare::Near(5), &integer(9), &integer(1)));
        assert!(!equal(Compare::Exact, &integer(2), &integer(1)));
    }

    #[test]
    fn any_order_still_sees_a_missing_item() {
        let array = |items: &[i64]| Reply {
            raw: format!("*{items:?}").into_bytes(),
            tree: Tree::Array(items.iter().map(|&n| Tree::Integer(n)).collect()),
        };
        assert!(equal(Compare::AnyOrder, &array(&[1, 2]), &array(&[2, 1])));
        assert!(!equal(Compare::AnyOrder, &array(&[1, 2]), &array(&[2, 2])));
        assert!(!equal(Compare::AnyOrderPairs, &array(&[1, 2]), &array(&[2, 1])));
        assert!(equal(Compare::AnyOrderPairs, &array(&[1, 2, 3, 4]), &array(&[3, 4, 1, 2])));
    }
}
