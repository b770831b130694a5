%%% The exercise's groups on making connections, and on the life of a pool.
-module(sockpool_exercise_pools).

-export([overflow/0, connect_failures/0, pool_crash_and_stop/0, second_clock/0, upgrade/0]).
-import(sockpool_exercise_util, [with_pool/2, started/1, until/1, waits/2, holder/1,
                                 finish/1, kill/1, hold/1, in_parallel/2]).

-spec overflow() -> ok.
overflow() ->
    lists:foreach(fun({Ttl, Strategy, Validate}) ->
                          with_pool(#{size => 1, max_overflow => 3, overflow_ttl => Ttl,
                                      strategy => Strategy, validate => Validate},
                                    fun(Name, _Peer) -> overflow(Name, Ttl) end)
                  end, [{0, lifo, always}, {50, fifo, never}, {infinity, lifo, {'after', 50}}]).

overflow(Name, Ttl) ->
    Holders = [hold(Name) || _ <- lists:seq(1, 4)],
    [ok = kill(Pid) || Pid <- Holders],
    until(fun() ->
                  {ok, #{total := Total}} = sockpool:stats(Name),
                  Total =:= 1 orelse Ttl =:= infinity
          end).

-spec connect_failures() -> ok.
connect_failures() ->
    [begin
         Name = started(Opts#{backoff => {1, 20}, connect_timeout => 200}),
         until(fun() ->
                       {error, Reason} = sockpool:checkout(Name, 20),
                       Expected(Reason) orelse Reason
               end),
         ok = sockpool:stop_pool(Name)
     end || {Opts, Expected} <- failing()],
    ok = full_backlog().

%% Port 1 is out of the range of ephemeral ports: a client cannot be connected to itself there.
failing() ->
    Unavailable = fun(Last) -> fun(Reason) -> Reason =:= {unavailable, Last} end end,
    [{#{host => {127, 0, 0, 1}, port => 1}, Unavailable(econnrefused)},
     {#{host => [{127, 0, 0, 1}, {0, 0, 0, 0, 0, 0, 0, 1}], port => 1},
      fun({unavailable, _}) -> true; (timeout) -> false end},
     {#{host => {127, 0, 0, 1}, port => 1, bind => {127, 0, 0, 2}}, Unavailable(econnrefused)},
     {#{transport => unix, path => "/nonexistent/socket"}, Unavailable(enoent)}].

%% Connecting hangs, and is killed at connect_timeout.
full_backlog() ->
    Peer = sockpool_scripted_peer:start(#{backlog => 1, accept => false}),
    Name = started(#{host => {127, 0, 0, 1}, port => sockpool_scripted_peer:port(Peer),
                     size => 8, connect_timeout => 50, backoff => {1, 20}}),
    until(fun() -> {ok, Stats} = sockpool:stats(Name), maps:get(connect_failures, Stats) > 0 end),
    ok = sockpool:stop_pool(Name),
    ok = sockpool_scripted_peer:stop(Peer),
    inits().

inits() ->
    Greet = fun(Conn) ->
                    ok = sockpool:setopts(Conn, [{packet, 2}]),
                    ok = sockpool:send(Conn, "hello"),
                    {ok, <<"hello">>} = sockpool:recv(Conn, 0),
                    {error, busy} = sockpool:checkin(Conn),
                    {error, busy} = sockpool:give_away(Conn, self()),
                    ok
            end,
    with_pool(#{init => Greet}, fun(Name, _Peer) -> {ok, _} = sockpool:checkout(Name) end),
    Fails = [fun(_) -> {error, no} end, fun(_) -> exit(no) end, fun(_) -> what end,
             fun(_) -> receive never -> ok end end],
    [begin
         Peer = sockpool_scripted_peer:start(#{}),
         Name = started(#{host => {127, 0, 0, 1}, port => sockpool_scripted_peer:port(Peer),
                          init => Fail, connect_timeout => 100, backoff => {1, 20}}),
         until(fun() ->
                       {ok, Stats} = sockpool:stats(Name),
                       maps:get(connect_failures, Stats) > 1
               end),
         ok = sockpool:stop_pool(Name),
         ok = sockpool_scripted_peer:stop(Peer)
     end || Fail <- Fails],
    ok.

-spec pool_crash_and_stop() -> ok.
pool_crash_and_stop() ->
    with_pool(#{}, fun crash/2),
    Peer = sockpool_scripted_peer:start(#{}),
    Name = started(#{host => {127, 0, 0, 1}, port => sockpool_scripted_peer:port(Peer)}),
    {Held, Receiving, Waiting} = occupied(Name),
    ok = sockpool:stop_pool(Name),
    {error, draining} = finish(Waiting),
    {error, closed} = finish(Receiving),
    {error, closed} = finish(Held),
    ok = sockpool_scripted_peer:stop(Peer).

crash(Name, _Peer) ->
    {Held, Receiving, Waiting} = occupied(Name),
    {ok, Pool} = pool_process(Name),
    ok = kill(Pool),
    {error, closed} = finish(Waiting),
    {error, closed} = finish(Receiving),
    until(fun() ->
                  case pool_process(Name) of
                      {ok, New} -> New =/= Pool;
                      Restarting -> Restarting
                  end
          end),
    %% Leases end one after the other, all of them before the pool is open again.
    {error, closed} = finish(Held).

occupied(Name) ->
    Self = self(),
    Held = spawn(fun() ->
                         {ok, Conn} = sockpool:checkout(Name),
                         Self ! {held, self()},
                         receive {finish, From} -> From ! {self(), sockpool:send(Conn, "x")} end
                 end),
    receive {held, Held} -> ok end,
    Receiving = holder(fun() ->
                               {ok, Conn} = sockpool:checkout(Name),
                               sockpool:recv(Conn, 1, infinity)
                       end),
    ok = waits(Receiving, [recv_more]),
    Waiting = holder(fun() -> sockpool:checkout(Name, infinity) end),
    ok = waits(Waiting, [checkout]),
    {Held, Receiving, Waiting}.

pool_process(Name) ->
    case lists:keyfind({sockpool, Name}, 1, supervisor:which_children(sockpool_sup)) of
        {_, Pid, _, _} when is_pid(Pid) -> {ok, Pid};
        Other -> {error, Other}
    end.

%% The pool's own process ends no waits.
-spec second_clock() -> ok.
second_clock() ->
    with_pool(#{size => 1},
              fun(Name, _Peer) ->
                      {ok, Conn} = sockpool:checkout(Name),
                      Process = sockpool_nif:pool_controller(sockpool_pool:find(Name)),
                      true = erlang:suspend_process(Process),
                      ok = in_parallel(100, fun(Index) ->
                                                    {error, timeout} = sockpool:checkout(Name, 2000 + Index)
                                            end),
                      true = erlang:resume_process(Process),
                      ok = sockpool:checkin(Conn)
              end).

%% The library is loaded over itself while connections and handles of the old code live.
-spec upgrade() -> ok.
upgrade() ->
    with_pool(#{size => 1},
              fun(Name, _Peer) ->
                      {ok, Conn} = sockpool:checkout(Name),
                      Waiting = holder(fun() -> sockpool:checkout(Name, infinity) end),
                      ok = waits(Waiting, [checkout]),
                      [begin
                           {module, sockpool_nif} = code:load_file(sockpool_nif),
                           true = code:soft_purge(sockpool_nif),
                           ok = sockpool:send(Conn, "old"),
                           {ok, <<"old">>} = sockpool:recv(Conn, 3)
                       end || _ <- [1, 2]],
                      ok = sockpool:checkin(Conn),
                      {ok, _} = finish(Waiting)
              end).
