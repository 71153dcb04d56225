//! What a graph must not have, and what evaluation should remember.

use super::graph::{Applicator, Graph, NodeId};

/// The schemas that apply themselves to the value that they judge: their evaluation would never end
/// (2020-12 core, §9.4.1). Of each circle, one.
pub(super) fn circles(graph: &Graph) -> Vec<NodeId> {
    let mut circles = Vec::new();
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
                Mark::Open => circles.push(next),
                Mark::New => {
                    *mark = Mark::Open;
                    path.push((next, node.applicators.iter().flat_map(Applicator::in_place).collect()));
                }
            }
        }
    }
    circles
}

/// Marks the nodes whose verdict on one value can be asked for more than once. Each other node has one way to it, so it
/// is asked at most as often as the node before it. Where evaluated members are sought, nodes are asked again.
pub(super) fn mark_shared(graph: &mut Graph) {
    let again = asked_again(graph);
    let mut ways = vec![0_u32; graph.nodes.len()];
    for applicator in graph.nodes.iter().flat_map(|node| &node.applicators) {
        for next in applicator.in_place().into_iter().chain(applicator.below()) {
            if let Some(ways) = ways.get_mut(next as usize) {
                *ways = ways.saturating_add(1);
            }
        }
    }
    for ((node, ways), again) in graph.nodes.iter_mut().zip(ways).zip(again) {
        // A leaf is judged in less time than its verdict is looked up.
        node.shared = !node.applicators.is_empty() && (again || ways > 1);
    }
}

/// By node: whether one that seeks evaluated members or items leads to it.
fn asked_again(graph: &Graph) -> Vec<bool> {
    let unevaluated = |applicator: &Applicator| {
        matches!(applicator, Applicator::UnevaluatedProperties(_) | Applicator::UnevaluatedItems(_))
    };
    let mut again = vec![false; graph.nodes.len()];
    let seeking = graph.nodes.iter().enumerate().filter(|(_, node)| node.applicators.iter().any(unevaluated));
    let mut left: Vec<NodeId> = seeking.map(|(id, _)| id as NodeId).collect();
    while let Some(id) = left.pop() {
        let Some(mark) = again.get_mut(id as usize) else { continue };
        if std::mem::replace(mark, true) {
            continue;
        }
        let applicators = graph.node(id).map(|node| &node.applicators).into_iter().flatten();
        left.extend(applicators.flat_map(|applicator| applicator.in_place().into_iter().chain(applicator.below())));
    }
    again
}
