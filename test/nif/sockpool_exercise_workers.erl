%%% The groups of the exercise about pools of processes.
-module(sockpool_exercise_workers).

-export([workers/0, as_poolboys/0, deaths_of_workers/0, ends_of_workers/0]).

-import(sockpool_exercise_util, [started/1, until/1, settled/1, empty_mailbox/0]).

-define(ROUNDS, 200).

pool(Opts) ->
    Start = fun() -> {ok, spawn_link(fun() -> worker(maps:get(trap, Opts, false)) end)} end,
    Name = started(maps:merge(#{transport => worker, worker => Start, backoff => {1, 5}, worker_shutdown => 20},
                              maps:remove(trap, Opts))),
    ok = settled(Name),
    Name.

%% One that traps exits does nothing about them, and is killed.
worker(Trap) ->
    _ = process_flag(trap_exit, Trap),
    serve().

serve() ->
    receive
        {From, Asked} -> From ! {self(), Asked}, serve();
        _ -> serve()
    end.

asked(Worker) ->
    Ref = make_ref(),
    Worker ! {self(), Ref},
    receive {Worker, Ref} -> ok end.

stopped(Name) ->
    ok = settled(Name),
    ok = sockpool:stop_pool(Name).

-spec workers() -> ok.
workers() ->
    Odd = fun(Worker) -> erlang:phash2(Worker) rem 2 =:= 1 end,
    lists:foreach(
      fun(Opts) ->
              Name = pool(Opts),
              [begin
                   {ok, Conn} = sockpool:checkout(Name, infinity),
                   Worker = sockpool:worker(Conn),
                   {ok, #{worker := Worker}} = sockpool:info(Conn),
                   ok = asked(Worker),
                   {error, {bad_option, transport, worker}} = sockpool:send(Conn, "x"),
                   {error, {bad_option, transport, worker}} = sockpool:recv(Conn, 1),
                   {error, {bad_option, transport, worker}} = sockpool:peername(Conn),
                   ok = End(Conn),
                   ok = sockpool:transaction(Name, fun asked/1, infinity)
               end || _ <- lists:seq(1, 20), End <- [fun sockpool:checkin/1, fun sockpool:discard/1]],
              %% More than there are.
              Waiters = [spawn_monitor(fun() -> {ok, ok} = sockpool:execute(Name, fun asked/1, 20000) end)
                         || _ <- lists:seq(1, 50)],
              [receive {'DOWN', Monitor, process, _, normal} -> ok end || {_, Monitor} <- Waiters],
              ok = stopped(Name)
      end, [#{}, #{validate => Odd}, #{abandoned => reuse, max_overflow => 2, overflow_ttl => 0}]).

%% Checked in by another process than the one that has them, and asked for while all are taken.
-spec as_poolboys() -> ok.
as_poolboys() ->
    Name = pool(#{abandoned => reuse, overflow_ttl => 0}),
    [begin
         Workers = [One, Two] = [sockpool_poolboy:checkout(Name, true, 20000) || _ <- [1, 2]],
         full = sockpool_poolboy:checkout(Name, false),
         [ok = asked(Worker) || Worker <- Workers],
         ok = sockpool_poolboy:checkin(Name, One),
         {_, Monitor} = spawn_monitor(fun() -> ok = sockpool_poolboy:checkin(Name, Two) end),
         receive {'DOWN', Monitor, process, _, normal} -> ok end
     end || _ <- lists:seq(1, 20)],
    stopped(Name).

%% Idle, in hands, and with their owners.
-spec deaths_of_workers() -> ok.
deaths_of_workers() ->
    lists:foreach(
      fun(Abandoned) ->
              Name = pool(#{abandoned => Abandoned, size => 4}),
              Users = [spawn(fun() -> use_for_ever(Name) end) || _ <- lists:seq(1, 8)],
              ok = deaths(Name, ?ROUNDS),
              [exit(User, kill) || User <- Users],
              ok = stopped(Name)
      end, [close, reuse]),
    empty_mailbox().

deaths(_Name, 0) ->
    ok;
deaths(Name, Left) ->
    Self = self(),
    {Owner, Monitor} = spawn_monitor(fun() ->
                                             {ok, Conn} = sockpool:checkout(Name, infinity),
                                             Self ! {self(), sockpool:worker(Conn)},
                                             receive die -> Conn end
                                     end),
    Worker = receive {Owner, Got} -> Got end,
    Victims = lists:nth(1 + Left rem 3, [[Worker], [Owner], [Worker, Owner]]),
    [exit(Victim, kill) || Victim <- Victims, is_pid(Victim)],
    exit(Owner, kill),
    receive {'DOWN', Monitor, process, Owner, _} -> ok end,
    deaths(Name, Left - 1).

use_for_ever(Name) ->
    {ok, Conn} = sockpool:checkout(Name, infinity),
    _ = sockpool:worker(Conn),
    erlang:yield(),
    _ = sockpool:checkin(Conn),
    use_for_ever(Name).

%% In order, by a crash, while a start hangs.
-spec ends_of_workers() -> ok.
ends_of_workers() ->
    lists:foreach(
      fun(Trap) ->
              Name = pool(#{trap => Trap, size => 3}),
              {ok, Conn} = sockpool:checkout(Name),
              Worker = sockpool:worker(Conn),
              true = exit(sockpool_nif:pool_controller(sockpool_pool:find(Name)), kill),
              ok = until(fun() -> not is_process_alive(Worker) end),
              {error, closed} = sockpool:checkin(Conn),
              ok = until(fun() -> element(1, sockpool:stats(Name)) =:= ok end),
              ok = stopped(Name)
      end, [false, true]),
    Self = self(),
    Hanging = started(#{size => 1, transport => worker, worker => fun() -> Self ! {hangs, self()}, receive never -> ok end end}),
    Connector = receive {hangs, Pid} -> Pid end,
    ok = sockpool:stop_pool(Hanging),
    false = is_process_alive(Connector),
    empty_mailbox().
