%%% @private
%%% Hosts: what a user may give as one, and what is said to who gives something else; addresses as bytes.
-module(sockpool_host).

-export([hosts/1, hint/1, shown/1, address_or_name/1, is_name/2, address_bytes/1, address/1, text/1]).
-export_type([host/0]).

-type host() :: inet:ip_address() | string().

-define(MAX_HOSTNAME_CHARS, 255).

%% @doc One or a list of them. A string is a list too: of integers, which no single host is.
-spec hosts(term()) -> {ok, [host(), ...]} | error.
hosts(Given) -> to_host_list(given(Given), []).

given([First | _] = Hosts) when not is_integer(First) -> Hosts;
given(Host) -> [Host].

to_host_list([Host | Rest], Done) ->
    case to_host(Host) of
        {ok, Normalised} -> to_host_list(Rest, [Normalised | Done]);
        error -> error
    end;
to_host_list([], Done) ->
    {ok, lists:reverse(Done)};
to_host_list(_ImproperTail, _Done) ->
    error.

to_host(Host) when is_tuple(Host) ->
    case inet:is_ip_address(Host) of
        true -> {ok, Host};
        false -> error
    end;
to_host(Host) ->
    Text = characters(Host),
    case is_name(Text, ?MAX_HOSTNAME_CHARS) of
        true -> address_or_plain_name(Text);
        false -> error
    end.

characters(undefined) -> undefined;
characters(Host) when is_atom(Host) -> atom_to_list(Host);
characters(Host) when is_binary(Host) -> binary_to_list(Host);
characters(Host) -> Host.

%% A port, a URL, or an address with brackets or a zone is neither: no name server would know it, and
%% the zone would be lost.
address_or_plain_name(Host) ->
    case lists:any(fun(Char) -> lists:member(Char, "%/[]@?#") end, Host) of
        true -> error;
        false ->
            case address_or_name(Host) of
                Host -> plain_name(lists:member($:, Host), Host);
                Address -> {ok, Address}
            end
    end.

plain_name(true, _Host) -> error;
plain_name(false, Host) -> {ok, Host}.

%% @doc An IP address written as a string as a tuple, another string as it is.
-spec address_or_name(string()) -> host().
address_or_name(Host) ->
    case inet:parse_strict_address(Host) of
        {ok, Address} -> Address;
        {error, einval} -> Host
    end.

%% @doc Visible ASCII only: what else a resolver makes of it differs from system to system.
-spec is_name(term(), non_neg_integer()) -> boolean().
is_name([Char], CharsLeft) -> is_name_char(Char) andalso CharsLeft > 0;
is_name([Char | Rest], CharsLeft) when CharsLeft > 0 ->
    is_name_char(Char) andalso is_name(Rest, CharsLeft - 1);
is_name(_Other, _CharsLeft) -> false.

is_name_char(Char) ->
    is_integer(Char) andalso Char > $\s andalso Char =< $~.

%%% What was meant by what is no host, and what is shown of it.

%% @doc For an error or a log: of a text with an `@', without what stands before that, which may be a password;
%% nothing of a text that is longer than any host. Of several hosts the first such one instead of all.
-spec shown(term()) -> term().
shown(Given) -> first(fun(Host) -> hidden(text_bytes(Host)) end, given(Given), Given).

%% What the fun makes of the first host of which it does not make `none'. The list's end may be anything.
first(Make, [Host | Rest], Default) ->
    case Make(Host) of
        none -> first(Make, Rest, Default);
        Made -> Made
    end;
first(_Make, _End, Default) ->
    Default.

hidden(Text) when byte_size(Text) > ?MAX_HOSTNAME_CHARS ->
    not_shown;
hidden(Text) when is_binary(Text) ->
    case string:split(Text, "@", trailing) of
        [User, Host] -> <<(scheme_of(User))/binary, "not_shown@", Host/binary>>;
        [_] -> none
    end;
hidden(error) ->
    none.

scheme_of(User) ->
    case string:split(User, "://") of
        [Scheme, _] -> <<Scheme/binary, "://">>;
        [_] -> <<>>
    end.

text_bytes(Host) when is_binary(Host) -> Host;
text_bytes(Host) when is_atom(Host) -> atom_to_binary(Host);
text_bytes(Host) when is_list(Host), length(Host) >= 0 ->
    case lists:all(fun is_integer/1, Host) andalso catch unicode:characters_to_binary(Host) of
        Text when is_binary(Text) -> Text;
        _ -> error
    end;
text_bytes(_Host) -> error.

%% @doc The options that were meant, where a port or a URL can be seen in one of the hosts.
-spec hint(term()) -> string().
hint(Given) -> first(fun(Host) -> did_you_mean(meant(characters(Host))) end, given(Given), "").

did_you_mean([]) -> none;
did_you_mean(Options) -> lists:flatten(["did you mean ", lists:join(", ", Options), "?"]).

meant(Text) ->
    case is_name(Text, ?MAX_HOSTNAME_CHARS) of
        true -> meant_by(string:split(Text, "://"));
        false -> []
    end.

meant_by([Scheme, Rest]) ->
    [Authority | _] = string:split(Rest, "/"),
    named(host_and_port(lists:last(string:split(Authority, "@", trailing))), scheme(Scheme));
meant_by([Text]) ->
    case to_host(Text) of
        {ok, _} -> [];
        error -> named(host_and_port(Text), {none, []})
    end.

scheme("http") -> {80, []};
scheme("https") -> {443, ["transport => tls"]};
scheme(_Other) -> {none, []}.

host_and_port("[" ++ Rest) ->
    case string:split(Rest, "]") of
        [Host, ":" ++ Port] -> {Host, Port};
        [Host, ""] -> {Host, ""};
        _ -> error
    end;
host_and_port(Text) ->
    case string:split(Text, ":", all) of
        [Host, Port] -> {Host, Port};
        [Host] -> {Host, ""};
        _ -> error
    end.

named({Host, PortText}, {Default, More}) ->
    case {to_host(Host), port(PortText, Default)} of
        {{ok, _}, none} -> [["host => ", quoted(Host)] | More];
        {{ok, _}, Port} when is_integer(Port) ->
            [["host => ", quoted(Host)], ["port => ", integer_to_list(Port)] | More];
        _ -> []
    end;
named(error, _Scheme) ->
    [].

quoted(Host) -> io_lib:format("~0tp", [Host]).

port("", Default) ->
    Default;
port(Text, _Default) ->
    case string:to_integer(Text) of
        {Port, ""} when Port >= 1, Port =< 65535 -> Port;
        _ -> error
    end.

%%% Addresses.

%% @doc An IP address in network byte order: 4 or 16 bytes.
-spec address_bytes(inet:ip_address()) -> binary().
address_bytes({_, _, _, _} = Address) ->
    list_to_binary(tuple_to_list(Address));
address_bytes(Address) ->
    << <<Group:16>> || Group <- tuple_to_list(Address) >>.

%% @doc What address_bytes/1 made into bytes.
-spec address(binary()) -> inet:ip_address().
address(<<A, B, C, D>>) ->
    {A, B, C, D};
address(<<Bytes:16/binary>>) ->
    list_to_tuple([Group || <<Group:16>> <= Bytes]).

%% @doc As it stands before a port.
-spec text(host()) -> string().
text(Address) when tuple_size(Address) =:= 8 -> "[" ++ inet:ntoa(Address) ++ "]";
text(Address) when is_tuple(Address) -> inet:ntoa(Address);
text(Name) -> Name.
