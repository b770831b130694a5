%%% What the groups of the exercise share.
-module(sockpool_exercise_util).

-export([with_pool/2, started/1, until/1, settled/1, waits/2]).
-export([holder/1, hold/1, finish/1, kill/1, in_parallel/2, empty_mailbox/0, bytes/1]).

-define(PATIENCE_MS, 30000).

%% Runs the fun with a pool that has its connections, and its server; all of them have to be back
%% when it returns. `peer' among the options are the server's.
-spec with_pool(map(), fun((atom(), sockpool_scripted_peer:peer()) -> term())) -> ok.
with_pool(Opts, Fun) ->
    Peer = sockpool_scripted_peer:start(maps:get(peer, Opts, #{})),
    Where = #{host => {127, 0, 0, 1}, port => sockpool_scripted_peer:port(Peer)},
    Name = started(maps:merge(Where, maps:remove(peer, Opts))),
    settled(Name),
    Fun(Name, Peer),
    settled(Name),
    ok = sockpool:stop_pool(Name),
    {error, not_found} = sockpool:checkout(Name),
    ok = sockpool_scripted_peer:stop(Peer).

%% A pool of a name that was never used.
-spec started(map()) -> atom().
started(Opts) ->
    Name = list_to_atom("exercise_" ++ integer_to_list(erlang:unique_integer([positive]))),
    ok = sockpool:start_pool(Name, maps:merge(#{size => 2, max_overflow => 0}, Opts)),
    Name.

%% Polls until the fun returns true; fails with what it returned last.
-spec until(fun(() -> true | term())) -> ok.
until(Holds) ->
    until(Holds, erlang:monotonic_time(millisecond) + ?PATIENCE_MS).

until(Holds, Deadline) ->
    case Holds() of
        true ->
            ok;
        Other ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({not_reached, Other}),
            receive after 5 -> ok end,
            until(Holds, Deadline)
    end.

%% Everything was given back, and nothing got lost.
-spec settled(atom()) -> ok.
settled(Name) ->
    until(fun() ->
                  {ok, Stats} = sockpool:stats(Name),
                  #{size := Size, total := Total, idle := Idle, leased := Leased,
                    connecting := Connecting, waiting := Waiting} = Stats,
                  (Leased =:= 0 andalso Waiting =:= 0 andalso Connecting =:= 0
                   andalso Idle =:= Total andalso Total >= Size) orelse Stats
          end).

%% The process waits in sockpool's receive, which one of these called.
-spec waits(pid(), [atom()]) -> ok.
waits(Pid, In) ->
    until(fun() ->
                  case erlang:process_info(Pid, [status, current_stacktrace]) of
                      [{status, waiting},
                       {current_stacktrace, [{sockpool_wait, await, 2, _},
                                             {sockpool_wait, Function, _, _} | _]}] ->
                          lists:member(Function, In) orelse {waits_in, Function};
                      Other ->
                          Other
                  end
          end).

%% A process that runs the fun and keeps what it returns, and its handles, until it is told to end.
-spec holder(fun(() -> term())) -> pid().
holder(Fun) ->
    spawn(fun() ->
                  Kept = Fun(),
                  receive {finish, From} -> From ! {self(), Kept} end
          end).

%% What the holder's fun returned.
-spec finish(pid()) -> term().
finish(Pid) ->
    Pid ! {finish, self()},
    receive {Pid, Result} -> Result after ?PATIENCE_MS -> error(holder_gone) end.

-spec kill(pid()) -> ok.
kill(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%% A process that holds a connection.
-spec hold(atom()) -> pid().
hold(Name) ->
    Self = self(),
    Pid = holder(fun() -> {ok, Conn} = sockpool:checkout(Name), Self ! {held, self()}, Conn end),
    receive {held, Pid} -> Pid end.

%% Runs the fun with 1, 2, ... in processes of their own.
-spec in_parallel(pos_integer(), fun((pos_integer()) -> term())) -> ok.
in_parallel(Count, Fun) ->
    Pids = [spawn_monitor(fun() -> Fun(Index), ok = empty_mailbox() end)
            || Index <- lists:seq(1, Count)],
    [receive {'DOWN', Monitor, process, Pid, normal} -> ok;
             {'DOWN', Monitor, process, Pid, Reason} -> error({process, Reason})
     end || {Pid, Monitor} <- Pids],
    ok.

%% At least that many.
-spec bytes(non_neg_integer()) -> binary().
bytes(Count) ->
    binary:copy(<<"0123456789abcdef">>, Count div 16 + 1).

-spec empty_mailbox() -> ok | {stray_message, term()}.
empty_mailbox() ->
    receive Any -> {stray_message, Any} after 0 -> ok end.
