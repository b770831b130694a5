%%% @private
%%% The client of pools that another node serves: a C node, or an Erlang node running sockpool. The
%%% protocol is in docs/cluster.md.
%%%
%%% The server keeps the time. The limit here is longer, and only ends calls to a server that says
%%% nothing any more; what it may have granted meanwhile is taken back by a cast of `cancel'.
-module(sockpool_remote).

-export([checkout/3, request/5, checkin/1, checkin_clean/1, discard/1, discard_after_exception/1, give_away/2, send/3, recv/3]).
-export([call/6, send_to/5]).
-export([info/1, worker/1, peername/1, sockname/1, setopts/2, state/1, set_state/2, starttls/3]).
-export([start_pool/3, stop_pool/2, update/3, await_ready/4, which_pools/1, stats/1, stats/2, histograms/2]).
-export_type([lease/0]).

-include("../sockpool_lease.hrl").

-type lease() :: {'$sockpool_lease', node(), Incarnation :: term(), Number :: pos_integer()}.
-type failure() :: {error, term()}.

-define(SERVER, sockpool).
%% What a reply may take beyond the time that the server has: the way there and back, and the tick
%% by which a pool ends long waits.
-define(MARGIN_MS, 2000).
%% The same for who would not wait.
-define(NO_WAIT_MS, 500).
%% When the server is asked for a time-out that only it knows.
-define(ASK_AFTER_MS, 1000).
%% For what never waits at the server.
-define(LIMIT_MS, 5000).
%% Starting reads files, stopping closes connections.
-define(POOL_LIMIT_MS, 30000).
%% For so long is asked whether a pool is ready: a C node does not see that who asks has died, and has places for so many.
-define(READY_MS, 5000).
-define(MAX_MS, 16#ffffffff).

%%% Leases.

-spec checkout(node(), atom(), timeout() | default) -> {ok, lease()} | {worker, lease(), pid()} | failure().
checkout(Node, Name, Timeout) ->
    Id = make_ref(),
    cancellable(Node, Id, Name, {checkout, Id, Name, Timeout}, Timeout).

-spec request(node(), atom(), binary(), non_neg_integer() | packet, timeout()) ->
          {ok, binary()} | failure().
request(Node, Name, Data, Length, Timeout) ->
    Id = make_ref(),
    cancellable(Node, Id, Name, {request, Id, Name, Data, Length, Timeout}, Timeout).

%% The target is a pool's name or a lease. Where a call over a lease is given up, nothing is to be taken
%% back, as with a pool of the caller's node: the server does not know its Id and ignores the cast.
-spec call(node(), atom() | lease(), module(), atom(), [term()], timeout()) ->
          {ok, term()} | failure().
call(Node, Target, Module, Function, Args, Timeout) ->
    Id = make_ref(),
    Request = {call, Id, Target, Module, Function, Args, Timeout},
    of_target(Target, cancellable(Node, Id, Target, Request, Timeout)).

-spec send_to(node(), atom() | lease(), term(), term(), timeout() | default) -> ok | failure().
send_to(Node, Target, Destination, Message, Timeout) ->
    Id = make_ref(),
    Request = {send_to, Id, Target, Destination, Message, Timeout},
    of_target(Target, cancellable(Node, Id, Target, Request, Timeout)).

of_target(?LEASE(_), Result) -> not_found_is_closed(Result);
of_target(_Name, Result) -> Result.

-spec checkin(lease()) -> ok | failure().
checkin(Lease) -> lease_call(Lease, {checkin, Lease}).

%% @doc A server that does not know it keeps such a connection in any case.
-spec checkin_clean(lease()) -> ok | failure().
checkin_clean(Lease) ->
    case lease_call(Lease, {checkin, Lease, clean}) of
        {error, {bad_request, _}} -> checkin(Lease);
        Result -> Result
    end.

-spec discard(lease()) -> ok | failure().
discard(Lease) -> lease_call(Lease, {discard, Lease}).

%% @doc A server that does not know it counts it as any other.
-spec discard_after_exception(lease()) -> ok | failure().
discard_after_exception(Lease) ->
    case lease_call(Lease, {discard, Lease, exception}) of
        {error, {bad_request, _}} -> discard(Lease);
        Result -> Result
    end.

%% The server knows nothing of processes on a third node: a dead one there gets the connection, and
%% its monitor gives it back.
-spec give_away(lease(), pid()) -> ok | failure().
give_away(Lease, Pid) when node(Pid) =:= node() ->
    case is_process_alive(Pid) of
        true -> lease_call(Lease, {give_away, Lease, Pid});
        false -> {error, noproc}
    end;
give_away(Lease, Pid) ->
    lease_call(Lease, {give_away, Lease, Pid}).

-spec send(lease(), binary(), timeout() | default) -> ok | failure().
send(?LEASE(Node) = Lease, Data, Timeout) ->
    not_found_is_closed(cancellable(Node, Lease, Lease, {send, Lease, Data, Timeout}, Timeout)).

-spec recv(lease(), non_neg_integer(), timeout()) -> {ok, binary()} | failure().
recv(?LEASE(Node) = Lease, Length, Timeout) ->
    not_found_is_closed(cancellable(Node, Lease, Lease, {recv, Lease, Length, Timeout}, Timeout)).

-spec info(lease()) -> {ok, map()} | failure().
info(Lease) -> lease_call(Lease, {info, Lease}).

-spec worker(lease()) -> pid() | failure().
worker(Lease) ->
    case info(Lease) of
        {ok, #{worker := Worker}} -> Worker;
        {ok, #{transport := Transport}} -> {error, {bad_option, transport, Transport}};
        {error, _} = Error -> Error
    end.

-spec peername(lease()) -> {ok, sockpool:address()} | failure().
peername(Lease) -> lease_call(Lease, {peername, Lease}).

-spec sockname(lease()) -> {ok, sockpool:address()} | failure().
sockname(Lease) -> lease_call(Lease, {sockname, Lease}).

-spec setopts(lease(), term()) -> ok | failure().
setopts(Lease, Opts) -> lease_call(Lease, {setopts, Lease, Opts}).

-spec state(lease()) -> {ok, term()} | failure().
state(Lease) -> known(state, lease_call(Lease, {state, Lease})).

-spec set_state(lease(), term()) -> ok | failure().
set_state(Lease, Term) -> known(set_state, lease_call(Lease, {set_state, Lease, Term})).

%% What came of it is known only there: where nothing is heard the lease ends.
-spec starttls(lease(), term(), timeout()) -> ok | failure().
starttls(?LEASE(Node) = Lease, Opts, Timeout) ->
    Request = {starttls, Lease, Opts, Timeout},
    known(starttls, not_found_is_closed(cancellable(Node, Lease, Lease, Request, Timeout))).

%% A C node, or one of before, does not know it. What was to be done is not told again: it may be large, or a secret.
known(Call, {error, {bad_request, _}}) -> {error, {bad_request, Call}};
known(_Call, Result) -> Result.

lease_call(?LEASE(Node), Request) ->
    not_found_is_closed(call(Node, Request, ?LIMIT_MS)).

%% Where there is no server any more, its leases have ended with it.
not_found_is_closed({error, not_found}) -> {error, closed};
not_found_is_closed(Result) -> Result.

%%% Pools.

-spec start_pool(node(), atom(), term()) -> ok | failure().
start_pool(Node, Name, Opts) -> call(Node, {start_pool, Name, Opts}, ?POOL_LIMIT_MS).

-spec stop_pool(node(), atom()) -> ok | failure().
stop_pool(Node, Name) -> call(Node, {stop_pool, Name}, ?POOL_LIMIT_MS).

-spec update(node(), atom(), map()) -> ok | failure().
update(Node, Name, Changes) -> known(update, call(Node, {update, Name, Changes}, ?LIMIT_MS)).

-spec await_ready(node(), atom(), sockpool_ready:count(), timeout() | default) -> ok | failure().
await_ready(Node, Name, Count, Timeout) when Timeout =/= default, Timeout > ?READY_MS ->
    Deadline = sockpool_wait:deadline(Timeout),
    case await_ready(Node, Name, Count, ?READY_MS) of
        {error, Reason} when Reason =:= timeout; element(1, Reason) =:= unavailable ->
            await_ready(Node, Name, Count, sockpool_wait:left(Deadline));
        Result ->
            Result
    end;
await_ready(Node, Name, Count, Timeout) ->
    Id = make_ref(),
    known(await_ready, cancellable(Node, Id, Name, {await_ready, Id, Name, Count, Timeout}, Timeout)).

-spec which_pools(node()) -> {ok, [atom()]} | failure().
which_pools(Node) -> all(call(Node, which_pools, ?LIMIT_MS)).

-spec stats(node()) -> {ok, [sockpool:stats()]} | failure().
stats(Node) -> all(call(Node, stats, ?LIMIT_MS)).

-spec stats(node(), atom()) -> {ok, sockpool:stats()} | failure().
stats(Node, Name) -> call(Node, {stats, Name}, ?LIMIT_MS).

-spec histograms(node(), atom()) -> {ok, sockpool:histograms()} | failure().
histograms(Node, Name) -> call(Node, {histograms, Name}, ?LIMIT_MS).

all(List) when is_list(List) -> {ok, List};
all({error, _} = Error) -> Error.

%%% Calls.

%% Id is what the server is to take back when nothing is heard of it: a grant, or a lease whose bytes
%% are then at an unknown place. Target is the pool or the lease whose time-outs are meant by `default'.
cancellable(Node, Id, Target, Request, Timeout) ->
    Begun = sockpool_wait:deadline(0),
    case ask(Node, Request, limit(Timeout), connect_limit(Timeout)) of
        {silent, Asked} when Timeout =:= default ->
            waited(wait_default(Node, Target, Request, Asked, Begun), Node, Id);
        Result ->
            waited(Result, Node, Id)
    end.

waited({silent, Asked}, Node, Id) ->
    case sockpool_wait:give_up(Asked) of
        {answer, Reply} ->
            Reply;
        given_up ->
            ok = sockpool_watch:cancel(Node, Id),
            {error, timeout}
    end;
waited({lost, Reason}, Node, Id) ->
    ok = sockpool_watch:cancel(Node, Id),
    {error, Reason};
waited(Result, _Node, _Id) ->
    Result.

%% The server is asked how long it may take. One that does not answer that does not answer anything.
wait_default(Node, Target, Request, Asked, Begun) ->
    case call(Node, {timeouts, Target}, ?MARGIN_MS) of
        {ok, {Checkout, Send}} -> wait_until(Node, add(Begun, default_ms(Request, Checkout, Send)), Asked);
        {error, timeout} -> {silent, Asked};
        {error, _} -> wait_until(Node, sockpool_wait:deadline(?MARGIN_MS), Asked) % it has ended
    end.

default_ms(Request, Checkout, _Send) when element(1, Request) =:= checkout; element(1, Request) =:= await_ready -> Checkout;
default_ms(Request, _Checkout, Send) when element(1, Request) =:= send -> Send;
default_ms(_SendTo, infinity, _Send) -> infinity;
default_ms(_SendTo, _Checkout, infinity) -> infinity;
default_ms(_SendTo, Checkout, Send) -> Checkout + Send.

add(_Begun, infinity) -> infinity;
add(Begun, Ms) -> Begun + limit(Ms).

wait_until(Node, Deadline, Asked) ->
    result(sockpool_wait:wait_on(Asked, sockpool_wait:left(Deadline)), Node).

connect_limit(default) -> ?ASK_AFTER_MS + ?MARGIN_MS;
connect_limit(Timeout) -> limit(Timeout).

limit(default) -> ?ASK_AFTER_MS;
limit(infinity) -> infinity;
limit(0) -> ?NO_WAIT_MS;
limit(Timeout) -> min(Timeout + ?MARGIN_MS, ?MAX_MS).

call(Node, Request, Limit) ->
    case ask(Node, Request, Limit, Limit) of
        {silent, Asked} ->
            case sockpool_wait:give_up(Asked) of
                {answer, Reply} -> Reply;
                given_up -> {error, timeout}
            end;
        {lost, Reason} ->
            {error, Reason};
        Result ->
            Result
    end.

%% Milliseconds until it is silence, and for a connection to the node where there is none.
ask(Node, _Request, _Limit, _ConnectLimit) when node() =:= nonode@nohost, Node =/= node() -> {error, not_alive};
ask(Node, Request, Limit, ConnectLimit) ->
    Until = {sockpool_wait:deadline(Limit), sockpool_wait:deadline(ConnectLimit)},
    try
        ask_connected(Node, Request, Until, true)
    catch
        error:system_limit -> {error, system_limit}
    end.

ask_connected(Node, Request, {Silence, _} = Until, Again) ->
    Watch = sockpool_watch:on(Node),
    case sockpool_wait:ask(Watch, Node, Request, sockpool_wait:left(Silence)) of
        not_connected -> connect(Node, Request, Until, Again, Watch);
        Answer -> result(Answer, Node)
    end.

%% Nothing has been sent. One that watched the connection before this ends by that; the next one connects.
connect(Node, Request, {_, Connect} = Until, Again, {old, Watch}) ->
    case sockpool_watch:connected(Watch, sockpool_wait:left(Connect)) of
        up -> ask_connected(Node, Request, Until, Again);
        {down, _} when Again -> ask_connected(Node, Request, Until, false);
        {down, _} = Down -> result(Down, Node);
        timeout -> {error, timeout}
    end.

result({answer, Reply}, _Node) -> Reply;
result({down, Reason}, Node) -> {lost, down(Reason, lists:member(Node, [node() | nodes(connected)]), Node)};
result({silent, _} = Silent, _Node) -> Silent.

%% Whatever watched has ended; the next connection, or the next server, may have the request already. A C node
%% that has too many monitors of this node ends those beyond at once.
down(noconnection, _IsConnected, Node) -> {nodedown, Node};
down(not_found, _IsConnected, _Node) -> not_found;
down(_Ended, false, Node) -> {nodedown, Node};
down(full, true, _Node) -> full;
down(_Ended, true, _Node) -> closed.
