//! What a server does beside rooms is the same through the proxy (behaviour 69): the scenarios of
//! the transparency suite that have no room in them.

use crate::stage::Stage;
use crate::transparency::all_same;

crate::tests![b69_scenarios_without_a_room];

async fn b69_scenarios_without_a_room(stage: Stage) {
    all_same(stage.kind, "plain_").await;
}
