%%% @doc What a pool's connections are doing, one by one: for somebody who looks at it, as the page of sockpool_http does.
%%% It is taken in pieces, each well below a millisecond, and while the pool goes on: a connection is told as it was when
%%% its turn came.
-module(sockpool_connections).

-export([list/1]).
-export_type([connection/0, told/0]).

-type state() :: idle | leased | connecting | checked.
-type peer() :: {inet:ip_address(), inet:port_number()} | {local, binary()} | pid() | undefined.

-type connection() ::
        #{slot := non_neg_integer(),            % its place in the pool's table
          state := state(),
          peer := peer(),                       % of a worker its process; of one that is connecting `undefined'
          age_ms := non_neg_integer(),          % since it is usable; of one that is connecting, since it is tried
          idle_ms := non_neg_integer() | undefined,
          uses := non_neg_integer(),            % leases so far, those of checks and the present one included
          owner := pid() | undefined,           % who has it, is connecting it or checks it
          held_ms := non_neg_integer() | undefined,
          rtt_us := non_neg_integer() | undefined,
          retransmits := non_neg_integer() | undefined}.

%% As the NIF tells it.
-type told() :: {Slot :: non_neg_integer(), state(), peer(), AgeMs :: non_neg_integer(), IdleMs :: non_neg_integer(),
                 Leases :: non_neg_integer(), Owner :: pid() | undefined, HeldMs :: non_neg_integer(),
                 {RttUs :: non_neg_integer(), Retransmits :: non_neg_integer()} | undefined}.

%% @doc In the order of their places. Of a pool on this node.
-spec list(sockpool_pool:id()) -> {ok, [connection()]} | {error, not_found}.
list(Name) ->
    case sockpool_pool:running(Name) of
        undefined -> {error, not_found};
        Pool -> {ok, listed(Pool, 0, [])}
    end.

%% Each piece has the last one first.
listed(Pool, Cursor, Before) ->
    case sockpool_nif:pool_connections(Pool, Cursor) of
        {Told, 0} -> lists:reverse(Before, lists:foldl(fun(One, After) -> [connection(One) | After] end, [], Told));
        {Told, More} -> listed(Pool, More, [connection(One) || One <- Told] ++ Before)
    end.

connection({Slot, State, Peer, AgeMs, IdleMs, Leases, Owner, HeldMs, Tcp}) ->
    {RttUs, Retransmits} = case Tcp of undefined -> {undefined, undefined}; _ -> Tcp end,
    #{slot => Slot, state => State, peer => Peer, age_ms => AgeMs, uses => Leases, owner => Owner,
      idle_ms => if State =:= idle -> IdleMs; true -> undefined end,
      held_ms => if State =:= idle -> undefined; true -> HeldMs end,
      rtt_us => RttUs, retransmits => Retransmits}.
