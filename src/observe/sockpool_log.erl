%%% @private
%%% What sockpool writes to the log: reports `#{event := Event, pool := Pool, ...}', in the domain `[sockpool]', and what they
%%% are in words. The events, their levels and what they carry are in docs/observability.md.
%%%
%%% Of one pool and event there is one line at once, and then one in ten seconds, which says how many were left out. No report
%%% has an option whole, and reasons are without arguments, see sockpool_reason.
-module(sockpool_log).

-export([log/2, format/1, text/1, show/0, hide/0]).
-export_type([event/0, report/0]).

-type event() :: cannot_connect | connected_again | started_late | not_started | stalled | workers_ended | check_failed | leak | leak_ended
               | crashed | crashed_again | stays | daemon | daemon_killed.
-type report() :: #{event := event(), pool => sockpool:pool() | term(), atom() => term()}.

%% Of a reason.
-define(SHOWN, 50).
-define(SHOWN_OF_CRASH, 20).
-define(FILTER, sockpool).

-spec log(logger:level(), report()) -> ok.
log(Level, Report) ->
    case logger:allow(Level, ?MODULE) andalso sockpool_log_limit:allow(Report) of
        false -> ok;
        {true, 0} -> write(Level, Report);
        {true, Suppressed} -> write(Level, Report#{suppressed => Suppressed})
    end.

write(Level, Report) ->
    logger:log(Level, Report, #{domain => [sockpool], report_cb => fun ?MODULE:format/1}).

%% @doc For logger.
-spec format(report()) -> {io:format(), [term()]}.
format(Report) -> {"~ts", [text(Report)]}.

-spec text(report()) -> iolist().
text(#{event := Event} = Report) -> [words(Event, Report), also(Report)].

also(#{suppressed := Count}) -> said(" (and ~b more like this since the last line)", [Count]);
also(_Report) -> "".

words(cannot_connect, #{pool := Pool, server := Server, transport := Transport, attempt := Attempt, reason := Reason, at := At}) ->
    said("sockpool ~tp: cannot ~ts ~ts (~ts~ts): ~0tP~ts", [Pool, connect_to(Transport), Server, Transport, Attempt, Reason, ?SHOWN, At]);
words(connected_again, #{pool := Pool, server := Server, transport := Transport, failures := Failures}) ->
    said("sockpool ~tp: ~ts ~ts, after ~b failures", [Pool, connected_again_to(Transport), Server, Failures]);
words(started_late, #{pool := Pool, count := Count, server := Server, reason := Reason}) ->
    said("sockpool ~tp: started, but ~tp of its connections to ~ts are not up in time: ~ts", [Pool, Count, Server, sockpool_error:format(Reason)]);
words(started_late, #{pool := {Name, Node}, count := Count, reason := Reason}) ->
    said("sockpool ~tp of ~tp: started, but ~tp of its connections are not up in time: ~ts", [Name, Node, Count, sockpool_error:format(Reason)]);
words(not_started, #{pool := Pool, reason := Reason}) ->
    said("sockpool pool ~0tp does not start: ~ts", [Pool, sockpool_error:format(Reason)]);
words(not_started, #{reason := Reason}) ->
    said("sockpool does not start: ~ts", [sockpool_error:format(Reason)]);
words(stalled, #{pool := Pool, peer := Peer, owner := Owner, held_ms := HeldMs, unacked := Unacked, retransmits := Retransmits}) ->
    said("sockpool ~tp: ~tp has a connection to ~tp for ~b ms, on which nothing gets through: ~b packets are unconfirmed, repeated ~b times",
         [Pool, Owner, Peer, HeldMs, Unacked, Retransmits]);
words(workers_ended, #{pool := Pool, count := Count, reason := Reason}) ->
    said("sockpool ~tp: ~b of its workers ended: ~0tP", [Pool, Count, Reason, ?SHOWN]);
words(check_failed, #{pool := Pool, server := Server, reason := badfun}) ->
    said("sockpool ~tp: a check of an idle connection to ~ts could not be made: badfun", [Pool, Server]);
words(check_failed, #{pool := Pool, server := Server, reason := Reason}) ->
    said("sockpool ~tp: a check of an idle connection to ~ts failed, which is closed: ~0tP", [Pool, Server, Reason, ?SHOWN]);
words(leak, #{pool := Pool, owner := Owner, connection := Connection, held_ms := HeldMs, facts := Facts}) ->
    said("sockpool ~tp: ~tp has connection ~b for ~b ms~ts", [Pool, Owner, Connection, HeldMs, Facts]);
words(leak_ended, #{pool := Pool, owner := Owner, connection := Connection, held_ms := HeldMs}) ->
    said("sockpool ~tp: connection ~b, which ~tp had for so long, is given back or closed after ~b ms", [Pool, Connection, Owner, HeldMs]);
words(crashed, #{reason := Reason} = Report) ->
    said("sockpool ~ts: its process has ended, and is started again: ~0tP", [whose(Report), Reason, ?SHOWN_OF_CRASH]);
words(crashed_again, #{pause_ms := PauseMs, reason := Reason} = Report) ->
    said("sockpool ~ts: its process has ended again; it is started until it stays, after pauses of up to ~b ms: ~0tP",
         [whose(Report), PauseMs, Reason, ?SHOWN_OF_CRASH]);
words(stays, Report) ->
    said("sockpool ~ts: its process stays", [whose(Report)]);
words(daemon, #{node := Node, line := Line}) ->
    said("sockpool_node ~ts: ~ts", [Node, Line]);
words(daemon_killed, #{node := Node}) ->
    said("sockpool_node ~ts: does not end, and is killed", [Node]).

whose(#{pool := Pool}) -> said("~tp", [Pool]);
whose(#{service := Service}) -> atom_to_list(Service).

connect_to(worker) -> "start a worker by";
connect_to(_Transport) -> "connect to".

connected_again_to(worker) -> "a worker was started again by";
connected_again_to(_Transport) -> "connected again to".

said(Format, Args) -> io_lib:format(Format, Args).

%%% OTP's own handler takes what has no domain, and drops that of domains which it does not know: ours, too, and nobody would see
%%% it. So a handler that takes the one takes the other while sockpool runs; others are let alone.

-spec show() -> ok.
show() ->
    lists:foreach(fun(Id) -> logger:add_handler_filter(Id, ?FILTER, {fun logger_filters:domain/2, {log, sub, [sockpool]}}) end,
                  [Id || #{id := Id, filters := Filters, filter_default := stop} <- logger:get_handler_config(),
                         {_, {_, {log, undefined, _}}} <- Filters]).

-spec hide() -> ok.
hide() ->
    lists:foreach(fun(Id) -> logger:remove_handler_filter(Id, ?FILTER) end, logger:get_handler_ids()).
