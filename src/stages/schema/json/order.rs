//! What a graph must not have, and what evaluation should remember.

use super::graph::{Applicator, Graph, NodeId};
use super::problem::SchemaProblem;

/// Rejects a schema that applies itself to the value that it judges: its evaluation would never end
/// (2020-12 core, §9.4.1).
pub(super) fn reject_circles(graph: &Graph) -> Result<(), SchemaProblem> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; graph.nodes.len()];
    for start in 0..graph.nodes.len() as NodeId {
        let mut path: Vec<(NodeId, Vec<NodeId>)> = vec![(start, vec![start])];
        while let Some((id, left)) = path.last_mut() {
            let Some(next) = left.pop() else {
                if let Some(mark) = marks.get_mut(*id as usize) {
                    *mark = Mark::Done;
                }
                path.pop();
                continue;
            };
            let (Some(mark), Some(node)) = (marks.get_mut(next as usize), graph.node(next)) else { continue };
            match *mark {
                Mark::Done => {}
                Mark::Open => return Err(SchemaProblem::circle(&node.place)),
                Mark::New => {
                    *mark = Mark::Open;
                    path.push((next, node.applicators.iter().flat_map(Applicator::in_place).collect()));
                }
            }
        }
    }
    Ok(())
}

/// Marks the nodes whose verdict on one value can be asked for more than once. Each other node has one way to it, so it
/// is asked at most as often as the node before it. Where evaluated members are sought, nodes are asked again.
pub(super) fn mark_shared(graph: &mut Graph) {
    let unevaluated = |applicator: &Applicator| {
        matches!(applicator, Applicator::UnevaluatedProperties(_) | Applicator::UnevaluatedItems(_))
    };
    let again = graph.nodes.iter().flat_map(|node| &node.applicators).any(unevaluated);
    let mut ways = vec![0_u32; graph.nodes.len()];
    for applicator in graph.nodes.iter().flat_map(|node| &node.applicators) {
        for next in applicator.in_place().into_iter().chain(applicator.below()) {
            if let Some(ways) = ways.get_mut(next as usize) {
                *ways = ways.saturating_add(1);
            }
        }
    }
    for (node, ways) in graph.nodes.iter_mut().zip(ways) {
        // A leaf is judged in less time than its verdict is looked up.
        node.shared = !node.applicators.is_empty() && (again || ways > 1);
    }
}
