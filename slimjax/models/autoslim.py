"""The channel numbers that AutoSlim published (Yu and Huang, 2019, appendix).

Each table has a row for each layer that a switch changes and a column for each
switch, the smallest first. `macs` are the multiply-adds of convolutions and the dense
layer for one image of 224 px and 1,000 classes.
"""

from slimjax.width import ChannelTable


def channel_tables(text: str) -> tuple[ChannelTable, ...]:
    """Returns a table for each column of `text`, smallest first.

    Example:
        >>> small, large = channel_tables('''
        ...     switch   1   2
        ...     macs    90 250
        ...     stem    16  24
        ... ''')
        >>> large
        ChannelTable(name='2', channels=(('stem/conv', 24),), macs=250)
    """
    (_, *names), (_, *macs), *rows = (
        line.split() for line in text.split('\n') if line.strip()
    )
    return tuple(
        ChannelTable(
            name,
            tuple((f'{row[0]}/conv', int(row[1 + column])) for row in rows),
            macs=int(macs[column]),
        )
        for column, name in enumerate(names)
    )


MOBILENET_V1 = channel_tables("""
switch                     1          2          3
macs               149825128  324756536  572070904
stem                      16         16         24
block1/pointwise          32         32         64
block2/pointwise          48         48        128
block3/pointwise          48         64        144
block4/pointwise          88        112        232
block5/pointwise          88        184        232
block6/pointwise         224        320        560
block7/pointwise         176        368        464
block8/pointwise         224        320        512
block9/pointwise         368        416        464
block10/pointwise        320        464        560
block11/pointwise        224        560        560
block12/pointwise        744       1128       1128
block13/pointwise        744       1128       1128
""")

MOBILENET_V2 = channel_tables("""
switch                   1          2          3
macs             206767048  305072416  504934400
stem                     8          8         32
block1/project           8          8         16
block2/expand           96         96        144
block2/project          16         16         24
block3/expand           96         96        176
block3/project          16         16         24
block4/expand           96         96        192
block4/project          24         24         48
block5/expand          144        144        240
block5/project          24         24         48
block6/expand          144        144        144
block6/project          24         24         48
block7/expand          144        144        264
block7/project          48         56         88
block8/expand          288        288        288
block8/project          48         56         88
block9/expand          288        288        336
block9/project          48         56         88
block10/expand         288        288        432
block10/project         48         56         88
block11/expand         288        288        576
block11/project         64         96        144
block12/expand         432        432        576
block12/project         64         96        144
block13/expand         432        432        648
block13/project         64         96        144
block14/expand         648        864        864
block14/project        176        240        240
block15/expand         720       1440       1440
block15/project        176        240        240
block16/expand         720        960       1440
block16/project        176        240        240
block17/expand        1440       1440       1440
block17/project        280        480        480
tail                  1920       1920       1920
""")

MNASNET = channel_tables("""
switch                   1          2          3
macs             217220648  315260104  531773072
stem                    16         16         16
block1/project           8          8          8
block2/expand           24         40         64
block2/project          16         24         32
block3/expand           48         48         56
block3/project          16         24         32
block4/expand           24         40         72
block4/project          16         24         32
block5/expand           48         48        104
block5/project          32         40         64
block6/expand           48         80        128
block6/project          32         40         64
block7/expand           48         48         96
block7/project          32         40         64
block8/expand          192        352        384
block8/project          56         64        104
block9/expand          400        400        528
block9/project          56         64        104
block10/expand         400        400        464
block10/project         56         64        104
block11/expand         400        464        720
block11/project         80         80        128
block12/expand         432        432        576
block12/project         80         80        128
block13/expand         648        792        864
block13/project        192        288        288
block14/expand         864        864       1584
block14/project        192        288        288
block15/expand         864        864       1728
block15/project        192        288        288
block16/expand         864       1008       1728
block16/project        192        288        288
block17/expand        1728       1728       1728
block17/project        280        360        480
tail                  1280       1920       1920
""")

RESNET50 = channel_tables("""
switch                          1          2           3           4
macs                    570004736  999850432  2006045440  3004547840
stem                           24         32          40          48
stage1_block1/shortcut         72         72         120         192
stage1_block1/conv1             8         16          16          16
stage1_block1/conv2            16         16          16          16
stage1_block1/conv3            72         72         120         192
stage1_block2/conv1            16         16          24          56
stage1_block2/conv2            16         16          24          56
stage1_block2/conv3            72         72         120         192
stage1_block3/conv1             8          8          16          24
stage1_block3/conv2             8          8          24          40
stage1_block3/conv3            72         72         120         192
stage2_block1/shortcut        240        280         440         512
stage2_block1/conv1            16         24          48          88
stage2_block1/conv2            24         40          72         112
stage2_block1/conv3           240        280         440         512
stage2_block2/conv1            16         16          32          64
stage2_block2/conv2            24         24          48         104
stage2_block2/conv3           240        280         440         512
stage2_block3/conv1            16         16          40         104
stage2_block3/conv2            16         24          56         112
stage2_block3/conv3           240        280         440         512
stage2_block4/conv1            16         24          64          80
stage2_block4/conv2            24         40          72         128
stage2_block4/conv3           240        280         440         512
stage3_block1/shortcut        704        880        1024        1024
stage3_block1/conv1            72         72         168         240
stage3_block1/conv2            72         72         168         216
stage3_block1/conv3           704        880        1024        1024
stage3_block2/conv1            48         72          96         144
stage3_block2/conv2            72         96         144         216
stage3_block2/conv3           704        880        1024        1024
stage3_block3/conv1            48         72         120         192
stage3_block3/conv2            72         72         168         192
stage3_block3/conv3           704        880        1024        1024
stage3_block4/conv1            72         72         120         144
stage3_block4/conv2            72         72         144         240
stage3_block4/conv3           704        880        1024        1024
stage3_block5/conv1            48         48         120         240
stage3_block5/conv2            48         72         144         256
stage3_block5/conv3           704        880        1024        1024
stage3_block6/conv1            48        168         256         256
stage3_block6/conv2            48         96         256         256
stage3_block6/conv3           704        880        1024        1024
stage4_block1/shortcut       1680       2016        2016        2016
stage4_block1/conv1           280        360         512         512
stage4_block1/conv2           240        280         512         512
stage4_block1/conv3          1680       2016        2016        2016
stage4_block2/conv1           120        320         480         480
stage4_block2/conv2           200        360         480         512
stage4_block2/conv3          1680       2016        2016        2016
stage4_block3/conv1           280        480         512         512
stage4_block3/conv2           280        440         512         512
stage4_block3/conv3          1680       2016        2016        2016
""")
