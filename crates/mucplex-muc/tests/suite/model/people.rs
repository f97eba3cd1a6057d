//! What happens past the proxy: moderators, and the others.

use super::life::Life;
use super::script::{CONFIGS, OTHERS, Op, ROLES, ROOMS, SHOWS};

impl Life {
    pub(crate) fn act_past_the_proxy(&mut self, op: Op) {
        match op {
            Op::Kick(room, account) => self.put_out(room, account, 307),
            Op::Ban(room, account) => self.put_out(room, account, 301),
            Op::Config(room, config) => {
                if self.world.service.rooms.contains_key(ROOMS[room]) {
                    let codes = CONFIGS[config];
                    self.world.service.config_change(ROOMS[room], codes);
                    self.world.sort_out();
                }
            }
            Op::Role(room, whom, role) => {
                let nick = match whom.checked_sub(OTHERS.len()) {
                    None => self.other_nick(whom, room),
                    Some(account) => self.account_nick(account, room),
                };
                if let Some(nick) = nick {
                    let service = &mut self.world.service;
                    service.give_role(ROOMS[room], &nick, ROLES[role]);
                    self.world.sort_out();
                }
            }
            Op::OtherJoins(other, room) => {
                if self.other_nick(other, room).is_none() {
                    self.world.other_joins(OTHERS[other], ROOMS[room]);
                }
            }
            Op::OtherLeaves(other, room) => {
                let to = ROOMS[room];
                self.world.other(
                    OTHERS[other],
                    &format!("<presence to='{to}/x' type='unavailable'/>"),
                );
            }
            Op::OtherShow(other, room, show) => {
                if let Some(nick) = self.other_nick(other, room) {
                    let (to, show) = (ROOMS[room], SHOWS[show]);
                    let xml = format!("<presence to='{to}/{nick}'>{show}</presence>");
                    self.world.other(OTHERS[other], &xml);
                }
            }
            Op::OtherNick(other, room) => {
                if let Some(nick) = self.other_nick(other, room) {
                    let next = match nick.strip_suffix('_') {
                        Some(short) => short.to_owned(),
                        None => format!("{nick}_"),
                    };
                    let to = ROOMS[room];
                    self.world
                        .other(OTHERS[other], &format!("<presence to='{to}/{next}'/>"));
                }
            }
            Op::OtherSays(other, room) => {
                let body = self.new_name("o");
                self.world.other_says(OTHERS[other], ROOMS[room], &body);
            }
            Op::OtherWhispers(other, room, account) => self.other_whispers(other, room, account),
            Op::OtherAsks(other, room, account) => self.other_asks(other, room, account),
            Op::OtherAnswers(other) => self.other_answers(other),
            _ => {}
        }
    }

    fn put_out(&mut self, room: usize, account: usize, code: u16) {
        if let Some(nick) = self.account_nick(account, room) {
            self.is_put_out(account, room);
            self.world.service.remove(ROOMS[room], &nick, code);
            self.world.sort_out();
        }
    }
}
