%%% The exercise's groups on requests that share connections; with callers that call the functions of the NIF out of order,
%%% with places of others and of nobody, which must not harm those who do as they should.
-module(sockpool_exercise_pipes).

-export([pipes/0, pipe_functions/0, hostile/0]).
-import(sockpool_exercise_util, [with_pool/2, in_parallel/2, bytes/1]).

-define(PATIENCE_MS, 30000).
-define(HOSTILE, 6).
-define(HONEST, 10).
-define(CALLS, 4000).

opts() -> #{packet => 4, pipeline => 8, peer => #{packet => 4}}.

-spec pipes() -> ok.
pipes() ->
    with_pool(opts(), fun pipes/2).

pipes(Name, _Peer) ->
    in_parallel(40, fun(Index) -> [asks(Name, Index, bytes(Size)) || Size <- [0, 1, 60, 64, 65, 1000, 70000, 200000]] end),
    Many = [<<N:32>> || N <- lists:seq(1, 300)],
    Replies = [{ok, Data} || Data <- Many],
    Replies = sockpool:request_many(Name, Many, packet, ?PATIENCE_MS),
    [{ok, <<"a">>}, {error, {bad_argument, data, _}}, {ok, <<"b">>}] =
        sockpool:request_many(Name, ["a", [not_iodata], "b"], packet, ?PATIENCE_MS),
    in_parallel(20, fun(Index) -> [_ = sockpool:request(Name, <<Index>>, packet, N rem 3) || N <- lists:seq(1, 50)] end),
    Victims = [spawn(fun() -> asks(Name, N, bytes(N * 1000)) end) || N <- lists:seq(1, 50)],
    [exit(Victim, kill) || Victim <- Victims],
    asks(Name, 0, <<>>).

asks(Name, Index, Data) ->
    Own = <<Index:32, Data/binary>>,
    {ok, Own} = sockpool:request(Name, Own, packet, ?PATIENCE_MS).

%% Each function, as sockpool_wait calls it, and then once more, when its time is over.
-spec pipe_functions() -> ok.
pipe_functions() ->
    with_pool((opts())#{size => 1, pipeline => 2}, fun pipe_functions/2).

pipe_functions(Name, _Peer) ->
    Pool = sockpool_pool:find(Name),
    Place = sockpool_nif:pipe_request(Pool, <<"x">>, packet),
    {ok, <<"x">>} = looked(Pool, Place),
    {error, not_found} = sockpool_nif:pipe_look(Pool, Place, 1),
    {error, not_found} = sockpool_nif:pipe_look(Pool, Place, fired),
    {error, not_found} = sockpool_nif:pipe_arm(Pool, Place, make_ref()),
    {error, timeout} = sockpool_nif:pipe_give_up(Pool, Place, false),
    [First, Second] = [sockpool_nif:pipe_request(Pool, Data, packet) || Data <- [<<"1">>, <<"2">>]],
    Ref = make_ref(),
    {wait, Lease} = sockpool_nif:pipe_enqueue(Pool, Ref, <<"3">>, packet),
    {ok, <<"1">>} = looked(Pool, First),
    {ok, <<"2">>} = told(Pool, Second),
    {ok, <<"3">>} = receive {'$sockpool', Ref, What} -> of_waiter(What, Pool, Lease) after ?PATIENCE_MS -> not_told end,
    piped = sockpool_nif:cancel(Lease),
    {error, closed} = sockpool_nif:checkin(Lease),
    {error, emsgsize} = sockpool_nif:pipe_request(Pool, <<"x">>, 1 bsl 40),
    ok.

looked(Pool, Place) ->
    case sockpool_nif:pipe_look(Pool, Place, 1) of
        {ok, _} = Reply -> Reply;
        _ -> erlang:yield(), looked(Pool, Place)
    end.

told(Pool, Place) ->
    Ref = make_ref(),
    case sockpool_nif:pipe_arm(Pool, Place, Ref) of
        {wait, _} -> receive {'$sockpool', Ref, ready} -> looked_again(Pool, Place); {'$sockpool', Ref, What} -> What end;
        Done -> Done
    end.

looked_again(Pool, Place) ->
    case sockpool_nif:pipe_look(Pool, Place, fired) of
        arm -> told(Pool, Place);
        Done -> Done
    end.

of_waiter(ready, Pool, Lease) -> looked_again(Pool, sockpool_nif:pipe_place(Lease));
of_waiter(What, _Pool, _Lease) -> What.

-spec hostile() -> ok.
hostile() ->
    with_pool(opts(), fun hostile/2).

hostile(Name, _Peer) ->
    Pool = sockpool_pool:find(Name),
    Places = ets:new(places, [public, set]),
    true = ets:insert(Places, {0, 0}),
    Honest = [spawn_monitor(fun() -> honest(Name, N) end) || N <- lists:seq(1, ?HONEST)],
    Hostile = [spawn_monitor(fun() ->
                   _ = rand:seed(exsss, N),
                   hostile(Pool, Places, [], ?CALLS)
               end) || N <- lists:seq(1, ?HOSTILE)],
    [receive {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason end || {Pid, Monitor} <- Hostile],
    [Pid ! enough || {Pid, _} <- Honest],
    [receive {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason end || {Pid, Monitor} <- Honest],
    true = ets:delete(Places),
    ok.

honest(Name, Index) ->
    asks(Name, Index, bytes(rand:uniform(300))),
    receive enough -> ok after 0 -> honest(Name, Index) end.

%% Own: handles of waits. What comes of all that is not received.
hostile(_Pool, _Places, _Own, 0) ->
    ok;
hostile(Pool, Places, Own, Left) ->
    Lease = case Own of [] -> none; _ -> lists:nth(rand:uniform(length(Own)), Own) end,
    More = try call(rand:uniform(10), Pool, Places, Lease) of
               {wait, New} when is_tuple(New) -> [New];
               Place when is_integer(Place) -> ets:insert(Places, {rand:uniform(16), Place}), [];
               _ -> []
           catch
               error:badarg -> []
           end,
    hostile(Pool, Places, lists:sublist(More ++ Own, 5), Left - 1).

call(1, Pool, _Places, _Lease) -> sockpool_nif:pipe_request(Pool, bytes(rand:uniform(200)), want());
call(2, Pool, _Places, _Lease) -> sockpool_nif:pipe_request(Pool, bytes(rand:uniform(200)), packet);
call(3, Pool, Places, _Lease) -> sockpool_nif:pipe_look(Pool, place(Places), pick([0, 1, 1000, 1 bsl 31, -1, fired, fired]));
call(4, Pool, Places, _Lease) -> sockpool_nif:pipe_look(Pool, place(Places), fired);
call(5, Pool, Places, _Lease) -> sockpool_nif:pipe_arm(Pool, place(Places), make_ref());
call(6, Pool, Places, _Lease) -> sockpool_nif:pipe_give_up(Pool, place(Places), pick([true, false, maybe_so]));
call(7, Pool, _Places, _Lease) -> sockpool_nif:pipe_enqueue(Pool, make_ref(), bytes(rand:uniform(2000)), want());
call(8, Pool, _Places, _Lease) -> sockpool_nif:pipe_event(Pool, rand:uniform(8) - 1, rand:uniform(50), pick([true, false]));
call(9, _Pool, _Places, Lease) -> sockpool_nif:pipe_place(Lease);
call(10, _Pool, _Places, Lease) -> (pick([fun sockpool_nif:cancel/1, fun sockpool_nif:checkin/1, fun(L) -> sockpool_nif:discard(L, discarded) end,
                                          fun sockpool_nif:disarm/1, fun sockpool_nif:info/1]))(Lease).

%% No length that is none of its reply: that would be the fault of all behind it.
want() -> pick([packet, 0, 1 bsl 63, {packet, 3}, -1]).

place(Places) ->
    [{_, Place}] = case ets:lookup(Places, rand:uniform(16)) of [] -> [{0, 0}]; Found -> Found end,
    pick([Place, Place, Place, Place + (1 bsl 16), Place bxor 1, max(0, Place - (1 bsl 16)), rand:uniform(1 bsl 63), -1]).

pick(List) -> lists:nth(rand:uniform(length(List)), List).
