%%% @private
%%% One attempt to make a connection, in a process of its own: resolves the name, connects, runs the
%%% pool's init function. The pool process bounds its time by killing it; its death, for whatever
%%% reason, gives the capacity back, because the attempt's handle dies with it.
-module(sockpool_connector).

-export([start/4]).

%% @doc Linked to the caller, which gets `{sockpool_connector, Pid, ok | {error, Reason}}', or the
%% exit signal where the process was killed. `Turn' says with which of several hosts to begin.
-spec start(sockpool_nif:pool(), sockpool_nif:lease(), sockpool_opts:opts(), non_neg_integer()) ->
          pid().
start(Pool, Attempt, Opts, Turn) ->
    Parent = self(),
    spawn_link(fun() -> Parent ! {?MODULE, self(), run(Pool, Attempt, Opts, Turn)} end).

run(Pool, Attempt, Opts, Turn) ->
    Deadline = sockpool_wait:deadline(maps:get(connect_timeout, Opts)),
    {Addresses, Unresolved} = addresses(targets(Opts, Turn)),
    case connect(Addresses, Attempt, Deadline, Unresolved) of
        ok -> prepare(Pool, Attempt, maps:get(init, Opts));
        {error, Reason} -> failed(Pool, Attempt, Reason)
    end.

%% Before the capacity is given back, so that whoever is told of the failure finds the reason.
failed(Pool, Attempt, Reason) ->
    ok = sockpool_nif:pool_note_error(Pool, Reason),
    _ = sockpool_nif:attempt_failed(Attempt),
    {error, Reason}.

targets(#{transport := unix, path := Path}, _Turn) ->
    [{Path, local}];
targets(#{host := Hosts, port := Port}, Turn) ->
    {Later, First} = lists:split(Turn rem length(Hosts), Hosts),
    [{Host, Port} || Host <- First ++ Later].

%% Every address of every host, in order, and the error of the last host that has none.
addresses(Targets) ->
    Found = [{resolve(Host), Port} || {Host, Port} <- Targets],
    {[{Address, Port} || {{ok, Addresses}, Port} <- Found, Address <- Addresses],
     lists:last([{error, nxdomain} | [Error || {{error, _} = Error, _Port} <- Found]])}.

resolve(Path) when is_binary(Path) ->
    {ok, [Path]};
resolve(Address) when is_tuple(Address) ->
    {ok, [sockpool_opts:address_bytes(Address)]};
resolve(Name) ->
    case {inet:getaddrs(Name, inet), inet:getaddrs(Name, inet6)} of
        {{error, Reason}, {error, _}} -> {error, Reason};
        {V4, V6} -> {ok, [sockpool_opts:address_bytes(A) || {ok, As} <- [V4, V6], A <- As]}
    end.

%% One that does not answer must leave time for those after it.
connect([], _Attempt, _Deadline, Last) ->
    Last;
connect([{Address, Port} | Rest], Attempt, Deadline, _Last) ->
    Now = sockpool_wait:deadline(0),
    Share = Now + (Deadline - Now) div (1 + length(Rest)),
    case sockpool_wait:open(Attempt, Address, Port, Share) of
        ok -> ok;
        Error -> connect(Rest, Attempt, Deadline, Error)
    end.

prepare(Pool, Attempt, Init) ->
    try init(Init, Attempt) of
        ok -> hand_over(Pool, Attempt);
        {error, Reason} -> failed(Pool, Attempt, {init, Reason});
        Other -> failed(Pool, Attempt, {init, {bad_return, Other}})
    catch
        Class:Reason:Stack -> failed(Pool, Attempt, {init, {Class, Reason, Stack}})
    end.

init(undefined, _Conn) -> ok;
init(Init, Conn) -> Init(Conn).

hand_over(Pool, Attempt) ->
    case sockpool_nif:attempt_ready(Attempt) of
        ok -> ok;
        {error, Reason} -> failed(Pool, Attempt, Reason)
    end.
